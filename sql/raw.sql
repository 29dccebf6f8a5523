-- Raw payloads: what upstream said, byte for byte, once per digest.

-- name: store_raw
-- Keep a payload. No row: these bytes are kept already, ask find_raw.
insert into raw_payloads (source_type, source, run_id, fetched_at, url, sha256, body, meta, cursor_after)
values (%(source_type)s, %(source)s, %(run_id)s, %(fetched_at)s, %(url)s, %(sha256)s, %(body)b, %(meta)s, %(cursor_after)s)
on conflict (source_type, source, sha256) do nothing
returning id

-- name: find_raw
-- The id under which a digest is kept.
select id from raw_payloads where source_type = %(source_type)s and source = %(source)s and sha256 = %(sha256)s

-- name: get_raw
-- A kept payload, to go on inside it.
select id, body from raw_payloads where source_type = %(source_type)s and source = %(source)s and sha256 = %(sha256)s
