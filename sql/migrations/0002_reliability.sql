-- What the breaker, the shrink guard and the quarantine need to know.

alter table etl_runs add column snapshot_records bigint;       -- how long the upstream's list was, when the run saw it from start to end

alter table quarantined_records add column external_id text collate "C";    -- whose record it is, where that can be told
create index quarantined_records_open_by_id on quarantined_records (source, external_id) where resolved_at is null;

-- Assets that complete snapshots no longer bring. A row goes when the asset comes back.
create table asset_absences (
    source           text collate "C" not null,
    external_id      text collate "C" not null,
    snapshots        integer not null default 1,
    first_missing_at timestamptz not null default clock_timestamp(),
    primary key (source, external_id)
);
