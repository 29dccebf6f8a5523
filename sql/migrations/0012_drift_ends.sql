-- A change of an upstream's fields ends: by itself when the field is as before, or when a person dismisses it. One cause is one event.
alter table schema_drift
    add column cause       text collate "C" not null default '',   -- what a field became, so that two causes on one field are two events
    add column resolved_at timestamptz;                            -- when upstream sent the field as before again, or a person closed it

drop index schema_drift_once;
create unique index schema_drift_once on schema_drift (source, stream, field, change, coalesce(suggested_field, ''), cause)
    where accepted_at is null and resolved_at is null;
drop index schema_drift_open;
create index schema_drift_open on schema_drift (source) where accepted_at is null and resolved_at is null;

-- An alias that was taken back is kept with its end: payloads that were loaded under it are read under it again.
alter table field_aliases add column ended_at timestamptz;
alter table field_aliases drop constraint field_aliases_pkey;
alter table field_aliases add column id bigint generated always as identity primary key;
create unique index field_aliases_in_force on field_aliases (source, stream, upstream_field) where ended_at is null;
