-- Raw payloads: what upstream said, byte for byte, once per digest.

-- name: store_raw
-- Keep a payload. No row: these bytes with this meta are kept already, ask find_raw.
insert into raw_payloads (source_type, source, run_id, fetched_at, url, sha256, body, meta, cursor_after)
values (%(source_type)s, %(source)s, %(run_id)s, %(fetched_at)s, %(url)s, %(sha256)s, %(body)b, %(meta)s, %(cursor_after)s)
on conflict (source_type, source, sha256, variant) do nothing
returning id

-- name: find_raw
-- The id under which these bytes are kept with this meta.
select id from raw_payloads
where source_type = %(source_type)s and source = %(source)s and sha256 = %(sha256)s
  and variant = hashtextextended((%(meta)s::jsonb - 'path' - 'mtime')::text, 0)

-- name: get_raw
-- The bytes of a kept payload, to go on inside it; they are the same under every meta.
select body from raw_payloads where source_type = %(source_type)s and source = %(source)s and sha256 = %(sha256)s limit 1

-- name: get_payload
-- A kept payload with all that parsing it again needs.
select body, url, meta, fetched_at, sha256 from raw_payloads where source_type = %(source_type)s and id = %(raw_id)s
