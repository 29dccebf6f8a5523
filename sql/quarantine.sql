-- quarantined_records: what did not validate, with the bytes and every reason.

-- name: quarantine_record
-- The same bad bytes of a source are one entry that counts its attempts and opens again when they come back.
insert into quarantined_records as q (source, run_id, raw_id, raw_position, record, fingerprint, errors, external_id)
values (%(source)s, %(run_id)s, %(raw_id)s, %(position)s, %(record)b, %(fingerprint)b, %(errors)s, %(external_id)s)
on conflict (source, fingerprint) do update
set run_id = excluded.run_id, raw_id = excluded.raw_id, raw_position = excluded.raw_position, errors = excluded.errors,
    external_id = excluded.external_id, last_seen_at = clock_timestamp(), attempts = q.attempts + 1, resolved_at = null

-- name: resolve_arrived
-- Close the entries of records that have now arrived valid. A bad point of an asset's history is not mended by its price of today.
update quarantined_records q set resolved_at = clock_timestamp()
from (select distinct external_id from staged_records) s
where q.source = %(source)s and q.resolved_at is null and q.external_id = s.external_id
  and not exists (select from etl_runs r where r.id = q.run_id and r.trigger = 'backfill')

-- name: resolve_payload
-- Close the entry of a payload as a whole that a run loads now. It has no external id, and by that it is found among the open ones.
update quarantined_records set resolved_at = clock_timestamp()
where source = %(source)s and external_id is null and resolved_at is null and raw_id = %(raw_id)s and raw_position is null

-- name: resolve_record
-- Close one entry whose record was loaded by a retry.
update quarantined_records set resolved_at = clock_timestamp(), attempts = attempts + 1 where id = %(id)s and resolved_at is null

-- name: list_quarantined
-- Entries newest first; each filter counts only when it is given.
select id, source, run_id, raw_id, raw_position, external_id, errors, first_seen_at, last_seen_at, attempts, resolved_at,
       octet_length(record) as bytes
from quarantined_records
where (%(source)s::text is null or source = %(source)s)
  and (%(all)s::boolean or resolved_at is null)
order by id desc
limit %(limit)s

-- name: get_quarantined
-- One entry with the record's bytes.
select id, source, run_id, raw_id, raw_position, external_id, record, errors, first_seen_at, last_seen_at, attempts, resolved_at
from quarantined_records where id = %(id)s

-- name: list_retries
-- Open entries by the payload each stands in; one without a position stands for its whole payload.
select q.id, q.raw_id, q.raw_position, q.fingerprint
from quarantined_records q
where q.source = %(source)s and q.resolved_at is null and (%(ids)s::bigint[] is null or q.id = any (%(ids)s))
order by q.raw_id, q.raw_position
limit %(limit)s

-- name: get_retry
-- A kept payload by its id: what a backfill brought of a source may have come from a file. The types are named for their indexes.
select id, body, url, meta, fetched_at, sha256 from raw_payloads
where source_type in ('api', 'csv', 'rss') and id = %(raw_id)s and source = %(source)s

-- name: mark_retried
-- Count a try of an entry that stays open.
update quarantined_records set attempts = attempts + 1, last_seen_at = clock_timestamp() where id = %(id)s and resolved_at is null

-- name: list_opened
-- Which of some entries are open.
select id from quarantined_records where id = any (%(ids)s::bigint[]) and resolved_at is null

-- name: resolve_dismissed
-- Close entries that a person gave up, with the reason behind their own; the same bytes open theirs again when they come back.
update quarantined_records set resolved_at = clock_timestamp(), errors = errors || %(error)s::jsonb
where id = any (%(ids)s::bigint[]) and resolved_at is null
