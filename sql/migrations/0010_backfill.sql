-- Backfills: what was asked for, cut into chunks that are claimed, committed and resumed one by one.

create table backfills (
    id         bigint generated always as identity primary key,
    source     text collate "C" not null,
    digest     text not null unique,                    -- of the request, or of the file's bytes: the same again joins this one
    request    jsonb not null,
    in_order   boolean not null default false,          -- its chunks are loaded one after the other
    chunks     integer not null,
    created_at timestamptz not null default clock_timestamp()
);

create table backfill_chunks (
    backfill_id bigint not null references backfills,
    number      integer not null,
    external_id text collate "C",                       -- a range: of which asset, from when, until when
    starts_at   timestamptz,
    ends_at     timestamptz,
    byte_from   bigint,                                 -- a file: which bytes, beginning with which line, and their digest
    byte_to     bigint,
    line        bigint,
    sha256      bytea,
    state       text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'failed', 'not allowed')),
    epoch       bigint not null default 0,              -- grows with every claim: who holds an older one writes nothing
    attempts    integer not null default 0,
    run_id      bigint,                                 -- the run that holds it or ended it
    records     integer not null default 0,
    error       text,
    updated_at  timestamptz not null default clock_timestamp(),
    primary key (backfill_id, number),
    check ((external_id is null) = (byte_from is not null)),
    check ((state in ('failed', 'not allowed')) = (error is not null))
);
create index backfill_chunks_open on backfill_chunks (backfill_id, number) where state in ('waiting', 'running');

-- The processes that work on backfills: one row each as long as it lives. Whoever finds a dead one takes its row away,
-- closes its run and frees its chunks in one transaction; without its row a process writes nothing more.
create table backfill_workers (
    run_id           bigint primary key references etl_runs,
    holder           text not null,
    backend_pid      integer,                           -- null behind a transaction pooler
    backend_start    timestamptz,
    lease_expires_at timestamptz not null
);
