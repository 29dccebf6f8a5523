-- The same bytes under another header or content type are another payload: they parse differently, so each is kept with its own meta.
-- Where a file lies and when it was written says nothing about its bytes and makes no second copy.

alter table raw_payloads
    add column variant bigint generated always as (hashtextextended((meta - 'path' - 'mtime')::text, 0)) stored;
alter table raw_payloads drop constraint raw_payloads_source_type_source_sha256_key;
alter table raw_payloads add constraint raw_payloads_once unique (source_type, source, sha256, variant);
