-- The record of which migrations a database has had.

-- name: create_migrations
-- Make the record itself, on a first run.
create table if not exists schema_migrations (
    name       text primary key,
    checksum   text not null,
    applied_at timestamptz not null default clock_timestamp()
)

-- name: lock_migrations
-- Let one migrating process in at a time; released with the transaction.
select pg_advisory_xact_lock(hashtextextended('kasparro.schema_migrations', 0))

-- name: bound_migration
-- How long a migration waits for a table that another session uses: whoever wants that table meanwhile waits behind it.
select set_config('lock_timeout', '60s', true)

-- name: has_migrations
-- Whether the record exists: false on an empty database.
select to_regclass('schema_migrations') is not null

-- name: list_migrations
-- What was applied, in order.
select name, checksum from schema_migrations order by name

-- name: insert_migration
-- Note one applied step, in the transaction of the step itself.
insert into schema_migrations (name, checksum) values (%(name)s, %(checksum)s)

-- name: get_encoding
-- The encoding the database keeps text in.
select pg_encoding_to_char(encoding) as encoding from pg_database where datname = current_database()
