-- The queue: a queued run is a row of etl_runs. Whoever may only read asks for one through enqueue_run, and through nothing else.

alter table etl_runs add column attempt integer not null default 1;    -- which try of one request this is: its worker may die
create index etl_runs_queued on etl_runs (source, id) where status = 'queued';

-- What was asked for under an Idempotency-Key, for a day. Keys and requests are kept as digests.
create table etl_idempotency_keys (
    key_digest     bytea primary key,
    request_digest bytea not null,
    run_ids        bigint[] not null,
    created_at     timestamptz not null default clock_timestamp(),
    expires_at     timestamptz not null default clock_timestamp() + interval '24 hours'
);
create index etl_idempotency_keys_by_expiry on etl_idempotency_keys (expires_at);

-- Queue a run of every source in `wanted`, or join the one that is queued already. A row a run; `outcome` is `queued`, `joined`,
-- `replayed` (the key asked for it before) or `mismatch` (the key asked for something else before: nothing is queued, ids are null).
-- One caller at a time, so that two with one key never queue twice; each statement sees what the one before it committed.
create function enqueue_run(wanted text[], key_digest bytea, request_digest bytea)
returns table (run_id bigint, run_source text, run_status text, queued_at timestamptz, outcome text)
language plpgsql security definer as $$
declare
    asked  etl_idempotency_keys;
    name   text;
    queued etl_runs;
    ids    bigint[] := '{}';
begin
    perform pg_advisory_xact_lock(hashtextextended('kasparro enqueue_run', 0));
    delete from etl_idempotency_keys k where k.expires_at <= clock_timestamp();
    select k.* into asked from etl_idempotency_keys k where k.key_digest = enqueue_run.key_digest;
    if found and asked.request_digest is distinct from enqueue_run.request_digest then
        return query select null::bigint, null::text, null::text, null::timestamptz, 'mismatch'::text;
        return;
    end if;
    if found then
        return query
            select r.id, r.source::text, r.status, r.requested_at, 'replayed'::text
            from unnest(asked.run_ids) with ordinality as a(id, place) join etl_runs r on r.id = a.id order by a.place;
        return;
    end if;
    foreach name in array wanted loop
        -- A worker that is just taking the run is waited for: what it has begun to read may be older than this request.
        select r.* into queued from etl_runs r where r.source = name and r.status = 'queued' order by r.id limit 1 for update;
        outcome := case when found then 'joined' else 'queued' end;
        if not found then
            insert into etl_runs (source, trigger, status) values (name, 'api', 'queued') returning * into queued;
        end if;
        ids := ids || queued.id;
        run_id := queued.id; run_source := queued.source; run_status := queued.status; queued_at := queued.requested_at;
        return next;
    end loop;
    if enqueue_run.key_digest is not null then
        insert into etl_idempotency_keys (key_digest, request_digest, run_ids)
        values (enqueue_run.key_digest, enqueue_run.request_digest, ids);
    end if;
    perform pg_notify('kasparro_queue', '');
end
$$;
revoke all on function enqueue_run(text[], bytea, bytea) from public;

-- The function acts with its owner's rights, so its names must mean these tables whoever calls.
do $$
begin
    execute format('alter function enqueue_run(text[], bytea, bytea) set search_path = pg_catalog, %I, pg_temp', current_schema());
end $$;
