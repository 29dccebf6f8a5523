-- What the doctor asks of a server.

-- name: get_server
-- Who we are, where, under which settings.
select current_setting('server_version') as version, current_setting('server_version_num')::integer as number,
       current_user as role, current_database() as database, inet_server_addr() is null as is_local,
       (select rolsuper from pg_roles where rolname = current_user) as is_superuser, pg_is_in_recovery() as is_standby,
       pg_database_size(current_database()) as bytes,
       (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as is_encrypted,
       current_setting('max_connections')::integer as connections_most,
       (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections

-- name: list_server_settings
-- Durability and timeouts as they count for this session; timeouts in milliseconds.
select name, setting from pg_settings
where name in ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'statement_timeout', 'lock_timeout',
               'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout', 'default_transaction_read_only')

-- name: get_clock
-- The server's clock.
select clock_timestamp() as now

-- name: list_missing_rights
-- Tables that this role may not use as the ETL does: it reads and writes them all, but schema_migrations, which it reads only;
-- and the functions that it calls, or has called by what it writes.
select c.relname as name
from pg_class c
where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace and c.relispartition = false
  and not (has_table_privilege(c.oid, 'select')
           and (c.relname = 'schema_migrations'
                or (has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))))
union all
select p.proname from pg_proc p
where p.pronamespace = current_schema()::regnamespace and p.proname in ('make_read_index', 'ensure_price_history', 'write_record', 'run_duration_bounds')
  and not has_function_privilege(p.oid, 'execute')
order by 1

-- name: mark_nothing
-- Fail as a run would where this connection may only read: the server judges the statement, though no row is meant.
update etl_runs set error_message = null where false

-- name: list_lapsed
-- Sources whose run went away without closing: the next run takes over.
select source, run_id, holder, extract(epoch from clock_timestamp() - lease_expires_at)::float8 as seconds
from etl_checkpoints where lease_expires_at < clock_timestamp() order by source

-- name: get_slowest_batch
-- The longest time between two commits of one payload among the last batches: what a batch takes at the most.
select coalesce(max(extract(epoch from committed_at - before))::float8, 0) as seconds
from (
    select committed_at, lag(committed_at) over (partition by source, run_id, raw_id order by seq) as before
    from (select * from etl_batches order by committed_at desc limit 1000) recent
) b

-- name: get_data_directory
-- Where the server keeps its data, null for a role that may not know.
select setting as path from pg_settings where name = 'data_directory'
