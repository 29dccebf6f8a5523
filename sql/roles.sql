-- roles: who runs the ETL, who serves the API. The owner of the tables makes both. Names and verifiers are set for one transaction,
-- because a statement that makes a role takes no parameters.

-- name: mark_role
-- Say which role the statements below are about. A verifier of the password, never the password; empty: the role keeps what it has.
select set_config('kasparro.role', %(role)s, true), set_config('kasparro.verifier', %(verifier)s, true)

-- name: ensure_role
-- Make the role if it is missing, let it log in, give it its password.
do $$
declare
    role     text := current_setting('kasparro.role');
    verifier text := current_setting('kasparro.verifier');
begin
    if role = current_user then
        raise exception 'the role % is the owner of the tables: name another for the ETL and for the API', role;
    end if;
    if not exists (select from pg_roles where rolname = role) then
        execute format('create role %I login', role);
    end if;
    if verifier <> '' then
        execute format('alter role %I login password %L', role, verifier);
    end if;
    execute format('grant connect on database %I to %I', current_database(), role);
    execute format('grant usage on schema %I to %I', current_schema(), role);
end $$

-- name: ensure_etl_rights
-- What the ETL needs: rows of every table, none of the tables themselves; also of the tables that later migrations make.
-- Months and indexes are made by two functions of the owner. The other two are named for databases that close functions to public.
do $$
declare
    role text := current_setting('kasparro.role');
begin
    execute format('grant temporary on database %I to %I', current_database(), role);
    execute format('grant select, insert, update, delete on all tables in schema %I to %I', current_schema(), role);
    execute format('grant usage, select on all sequences in schema %I to %I', current_schema(), role);
    execute format('revoke insert, update, delete on schema_migrations from %I', role);
    execute format('grant execute on function make_read_index(), ensure_price_history(date[]), write_record, run_duration_bounds() to %I', role);
    execute format('alter default privileges in schema %I grant select, insert, update, delete on tables to %I', current_schema(), role);
    execute format('alter default privileges in schema %I grant usage, select on sequences to %I', current_schema(), role);
end $$

-- name: ensure_api_rights
-- What the API needs: to read, and to call the function that queues a run and the one that tells the classes of durations.
do $$
declare
    role text := current_setting('kasparro.role');
begin
    execute format('grant select on all tables in schema %I to %I', current_schema(), role);
    execute format('alter default privileges in schema %I grant select on tables to %I', current_schema(), role);
    execute format('grant execute on function enqueue_run(text[], bytea, bytea), run_duration_bounds() to %I', role);
    execute format('alter role %I set default_transaction_read_only = on', role);
end $$
