-- The tables of a first installation. Only the ETL writes them; the web app reads them.

create table etl_runs (
    id                  bigint generated always as identity primary key,
    source              text collate "C" not null,
    trigger             text not null check (trigger in ('cli', 'cron', 'api', 'backfill', 'replay')),
    status              text not null check (status in ('queued', 'running', 'success', 'partial', 'failed', 'refused', 'cancelled', 'abandoned')),
    requested_at        timestamptz not null default clock_timestamp(),
    started_at          timestamptz,
    finished_at         timestamptz,
    duration_seconds    numeric generated always as (round(extract(epoch from finished_at - started_at), 3)) stored,
    records_extracted   bigint not null default 0,
    records_inserted    bigint not null default 0,
    records_updated     bigint not null default 0,
    records_unchanged   bigint not null default 0,
    records_quarantined bigint not null default 0,
    batches             bigint not null default 0,
    bytes_extracted     bigint not null default 0,
    error_type          text,
    error_message       text,
    resumed_from        bigint references etl_runs,     -- the interrupted run whose payload this one went on with
    epoch               bigint,                         -- the fencing token it writes under
    host                text,
    pid                 integer,
    version             text,
    constraint counters_add_up check (records_extracted = records_inserted + records_updated + records_unchanged + records_quarantined),
    constraint finished_or_not check ((status in ('queued', 'running')) = (finished_at is null)),
    constraint started_or_not  check (status in ('queued', 'cancelled', 'abandoned') or started_at is not null)
);
create unique index etl_runs_one_running on etl_runs (source) where status = 'running' and trigger in ('cli', 'cron', 'api');
create index etl_runs_by_source on etl_runs (source, id desc);

-- Lease, fencing epoch and checkpoint of a source in one row: the statement that advances one checks the other two.
create table etl_checkpoints (
    source           text collate "C" primary key,
    position         jsonb not null default '{}',
    records_total    bigint not null default 0,
    run_id           bigint references etl_runs,        -- the run that holds or last held the lease
    updated_at       timestamptz not null default clock_timestamp(),
    epoch            bigint not null default 0,         -- only ever grows
    seq              bigint not null default 0,         -- batches ever committed
    holder           text,                              -- host and process, for people
    backend_pid      integer,                           -- null behind a transaction pooler
    backend_start    timestamptz,
    lease_expires_at timestamptz                        -- null: free
);

-- One row a committed batch: where in which payload it began and ended.
create table etl_batches (
    source         text collate "C" not null,
    seq            bigint not null,
    run_id         bigint not null references etl_runs,
    epoch          bigint not null,
    raw_id         bigint not null,
    first_position integer not null,
    next_position  integer not null,
    inserted       integer not null,
    updated        integer not null,
    unchanged      integer not null,
    quarantined    integer not null,
    committed_at   timestamptz not null default clock_timestamp(),
    primary key (source, seq),
    constraint counters_add_up check (next_position - first_position = inserted + updated + unchanged + quarantined)
);
create index etl_batches_by_run on etl_batches (run_id);

-- What upstream said in one breath, byte for byte, once per digest. One parent, so that one statement serves the three kinds.
create sequence raw_payload_id;
create table raw_payloads (
    id            bigint not null default nextval('raw_payload_id'),
    source_type   text not null,
    source        text collate "C" not null,
    run_id        bigint not null,
    fetched_at    timestamptz not null,
    url           text not null,
    sha256        bytea not null,
    body          bytea not null,
    meta          jsonb not null default '{}',          -- what parsing needs besides the bytes
    cursor_after  jsonb not null default '{}',          -- where the source stands once the payload is loaded
    primary key (source_type, id),
    unique (source_type, source, sha256)
) partition by list (source_type);
create table raw_api_data partition of raw_payloads for values in ('api');
create table raw_csv_data partition of raw_payloads for values in ('csv');
create table raw_rss_data partition of raw_payloads for values in ('rss');
alter sequence raw_payload_id owned by raw_payloads.id;

-- lz4 costs a tenth of the server's time that the default compression does; a server built without it keeps the default.
do $$
begin
    alter table raw_api_data alter column body set compression lz4;
    alter table raw_csv_data alter column body set compression lz4;
    alter table raw_rss_data alter column body set compression lz4;
exception when feature_not_supported then
    null;
end $$;

-- No foreign keys from here on: a trigger a row would double the cost of a load, and a batch writes run, payload and rows together.
create table unified_data (
    id                 bigint generated always as identity primary key,
    source             text collate "C" not null,
    source_type        text not null,
    external_id        text collate "C" not null check (external_id <> ''),
    kind               text not null check (kind in ('asset', 'article')),
    asset_id           text collate "C",                -- null until an identity across sources is established, never guessed
    symbol             text collate "C",
    name               text not null,
    category           text not null,
    price_usd          numeric check (price_usd >= 0 and price_usd < 'Infinity'),
    market_cap_usd     numeric check (market_cap_usd >= 0 and market_cap_usd < 'Infinity'),
    volume_24h_usd     numeric check (volume_24h_usd >= 0 and volume_24h_usd < 'Infinity'),
    percent_change_24h numeric check (percent_change_24h > '-Infinity' and percent_change_24h < 'Infinity'),
    rank               integer check (rank > 0),
    url                text,
    tags               text[],
    source_updated_at  timestamptz check (source_updated_at > '-infinity' and source_updated_at < 'infinity'),
    first_seen_at      timestamptz not null default clock_timestamp(),
    updated_at         timestamptz not null default clock_timestamp(),
    status             text not null default 'active' check (status in ('active', 'inactive')),
    raw_id             bigint not null,
    raw_position       integer not null,
    run_id             bigint not null,
    unique (source, external_id)
);

create table price_history (
    source         text collate "C" not null,
    external_id    text collate "C" not null,
    observed_at    timestamptz not null check (observed_at > '-infinity' and observed_at < 'infinity'),
    price_usd      numeric not null check (price_usd >= 0 and price_usd < 'Infinity'),
    market_cap_usd numeric check (market_cap_usd >= 0 and market_cap_usd < 'Infinity'),
    volume_24h_usd numeric check (volume_24h_usd >= 0 and volume_24h_usd < 'Infinity'),
    run_id         bigint not null,
    primary key (source, external_id, observed_at)
);

create table quarantined_records (
    id            bigint generated always as identity primary key,
    source        text collate "C" not null,
    run_id        bigint not null,
    raw_id        bigint not null,
    raw_position  integer not null,
    record        bytea not null,                       -- the record as upstream sent it
    fingerprint   bytea not null,                       -- sha256 of record: the same bad record counts up instead of piling up
    errors        jsonb not null,                       -- [{"field": …, "reason": …}, …]
    first_seen_at timestamptz not null default clock_timestamp(),
    last_seen_at  timestamptz not null default clock_timestamp(),
    attempts      integer not null default 1,
    resolved_at   timestamptz,
    unique (source, fingerprint)
);
create index quarantined_records_open on quarantined_records (source) where resolved_at is null;

create table schema_drift (
    id              bigint generated always as identity primary key,
    source          text collate "C" not null,
    field           text not null,
    change          text not null check (change in ('added', 'missing', 'renamed', 'retyped')),
    suggested_field text,
    confidence      numeric check (confidence between 0 and 1),
    sample          text,
    first_seen_at   timestamptz not null default clock_timestamp(),
    last_seen_at    timestamptz not null default clock_timestamp(),
    accepted_at     timestamptz,
    run_id          bigint not null
);
create index schema_drift_open on schema_drift (source) where accepted_at is null;

-- The calls of the last period, so that all processes of one database keep one budget.
create table etl_rate_limits (
    source text collate "C" primary key,
    calls  timestamptz[] not null default '{}'
);
