-- What a source's records look like, what changed, and which renames were accepted.

-- What the last good payloads of a stream sent, field by field. A stream: a feed, files of one name, "" when a source has one only.
create table source_profiles (
    source     text collate "C" not null,
    stream     text collate "C" not null,
    profile    jsonb not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (source, stream)
);

create table field_aliases (
    source         text collate "C" not null,
    stream         text collate "C" not null,
    upstream_field text collate "C" not null,
    field          text not null,
    role           text,
    drift_id       bigint not null,
    created_at     timestamptz not null default clock_timestamp(),
    primary key (source, stream, upstream_field)
);

alter table schema_drift
    add column stream   text collate "C" not null default '',
    add column note     text,                                  -- what a person must know before accepting
    add column relied   boolean not null default false,        -- a field that we load
    add column required boolean not null default false,        -- a field without which no record is valid
    add column role     text,                                  -- what the field is to us
    add column before   jsonb,                                 -- the field's profile as it was, for accepting and undoing
    add column after    jsonb;
-- One cause is one open event, however often it is seen.
create unique index schema_drift_once on schema_drift (source, stream, field, change, coalesce(suggested_field, '')) where accepted_at is null;

-- A payload that was set aside as a whole is one entry without a position.
alter table quarantined_records alter column raw_position drop not null;
