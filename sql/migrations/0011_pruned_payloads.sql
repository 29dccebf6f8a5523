-- What is still known of raw payloads that were deleted for their age: lineage answers with it, without the bytes.

create table pruned_payloads (
    id          bigint primary key,
    source_type text not null,
    source      text collate "C" not null,
    run_id      bigint not null,
    fetched_at  timestamptz not null,
    url         text not null,
    sha256      bytea not null,
    pruned_at   timestamptz not null default clock_timestamp()
);
create index pruned_payloads_by_source on pruned_payloads (source);
