-- quarantined_records: what did not validate, with the bytes and every reason.

-- name: quarantine_record
-- The same bad bytes of a source are one entry that counts its attempts and opens again when they come back.
insert into quarantined_records as q (source, run_id, raw_id, raw_position, record, fingerprint, errors)
values (%(source)s, %(run_id)s, %(raw_id)s, %(position)s, %(record)b, %(fingerprint)b, %(errors)s)
on conflict (source, fingerprint) do update
set run_id = excluded.run_id, raw_id = excluded.raw_id, raw_position = excluded.raw_position, errors = excluded.errors,
    last_seen_at = clock_timestamp(), attempts = q.attempts + 1, resolved_at = null
