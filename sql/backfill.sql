-- backfills, backfill_chunks, backfill_workers: history in chunks that several processes share.

-- name: begin_backfill
-- Store what was asked for. No row: the same was asked for before, ask find_backfill.
insert into backfills (source, digest, request, in_order, chunks)
values (%(source)s, %(digest)s, %(request)s, %(in_order)s, %(chunks)s)
on conflict (digest) do nothing
returning id, created_at

-- name: find_backfill
-- The stored backfill of a request.
select id, created_at, chunks from backfills where digest = %(digest)s

-- name: insert_chunks
-- Plan the chunks of a backfill, in the transaction that stores it.
insert into backfill_chunks (backfill_id, number, external_id, starts_at, ends_at, byte_from, byte_to, line, sha256)
select %(backfill_id)s, c.*
from unnest(%(numbers)s::integer[], %(external_ids)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[],
            %(byte_froms)s::bigint[], %(byte_tos)s::bigint[], %(lines)s::bigint[], %(digests)s::bytea[]) as c

-- name: insert_worker
-- Note that a process works on backfills from now on.
insert into backfill_workers (run_id, holder, backend_pid, backend_start, lease_expires_at)
select %(run_id)s, %(holder)s, a.pid, a.backend_start, clock_timestamp() + make_interval(secs => %(ttl)s)
from (values (0)) as one left join pg_stat_activity a on a.pid = %(backend_pid)s

-- name: renew_worker
-- The first statement of every write of a process, and its sign of life. No row: it was taken for dead, and must write nothing more.
-- The row stays locked to the end of the transaction, so no takeover fits between the check and the commit.
update backfill_workers set lease_expires_at = clock_timestamp() + make_interval(secs => %(ttl)s) where run_id = %(run_id)s
returning run_id

-- name: retake_worker
-- Go on under a new connection. No row: the process was taken for dead.
update backfill_workers w
set backend_pid = a.pid, backend_start = a.backend_start, lease_expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
from (values (0)) as one left join pg_stat_activity a on a.pid = %(backend_pid)s
where w.run_id = %(run_id)s
returning w.run_id

-- name: release_chunks
-- Let others take what a process held. The new epoch makes a transaction harmless that may yet be under way.
update backfill_chunks set state = 'waiting', epoch = epoch + 1, run_id = null, updated_at = clock_timestamp()
where run_id = %(run_id)s and state = 'running'

-- name: forget_worker
-- A process ends.
delete from backfill_workers where run_id = %(run_id)s

-- name: end_sleepers
-- End the sessions of processes whose lease ran out inside a transaction: one that stopped in a COPY is ended by no timeout.
select pg_terminate_backend(a.pid, 5000) from backfill_workers w
join pg_stat_activity a on a.pid = w.backend_pid and a.backend_start is not distinct from w.backend_start
where w.lease_expires_at < clock_timestamp()

-- name: abandon_workers
-- Take away the rows of processes that are dead: the lease ran out, or the session is gone from the server.
-- One that is in the middle of a commit is left alone. Closes their runs and frees their chunks.
with dead as (
    delete from backfill_workers where run_id in (
        select w.run_id from backfill_workers w
        where w.lease_expires_at < clock_timestamp()
           or (w.backend_pid is not null and not exists (
                select from pg_stat_activity o
                where o.pid = w.backend_pid and coalesce(o.backend_start, w.backend_start) is not distinct from w.backend_start))
        for update skip locked
    )
    returning run_id
), freed as (
    update backfill_chunks set state = 'waiting', epoch = epoch + 1, run_id = null, updated_at = clock_timestamp()
    where state = 'running' and run_id in (select run_id from dead)
)
update etl_runs
set status = 'abandoned', finished_at = clock_timestamp(),
    error_type = 'Abandoned', error_message = 'its process went away: its chunks are free for others'
where id in (select run_id from dead) and status = 'running' and trigger = 'backfill'
returning id

-- name: take_chunk
-- Claim the next chunk; of a backfill in order only when all before it are ended. No row: none is free now.
update backfill_chunks c
set state = 'running', epoch = c.epoch + 1, attempts = c.attempts + 1, run_id = %(run_id)s, updated_at = clock_timestamp()
from (
    select w.backfill_id, w.number from backfill_chunks w
    where w.backfill_id = any (%(backfills)s) and w.state = 'waiting'
      and (not (select b.in_order from backfills b where b.id = w.backfill_id)
           or not exists (select from backfill_chunks e
                          where e.backfill_id = w.backfill_id and e.state in ('waiting', 'running') and e.number < w.number))
    order by w.backfill_id, w.number
    limit 1
    for update skip locked
) free
where c.backfill_id = free.backfill_id and c.number = free.number
returning c.backfill_id, c.number, c.epoch, coalesce(c.external_id, '') as external_id,
          coalesce(c.starts_at, 'epoch') as starts_at, coalesce(c.ends_at, 'epoch') as ends_at, coalesce(c.byte_from, 0) as byte_from,
          coalesce(c.byte_to, 0) as byte_to, coalesce(c.line, 0) as line, coalesce(c.sha256, '') as sha256

-- name: mark_chunk
-- End a chunk that is still ours. No row: it was taken over, write nothing.
update backfill_chunks set state = %(state)s, records = %(records)s, error = %(error)s, updated_at = clock_timestamp()
where backfill_id = %(backfill_id)s and number = %(number)s and epoch = %(epoch)s and run_id = %(run_id)s and state = 'running'
returning number

-- name: mark_others
-- What upstream said of one chunk holds of others that still wait: of all of an unknown asset, of all that a plan is too small for.
update backfill_chunks set state = %(state)s, error = %(error)s, run_id = %(run_id)s, updated_at = clock_timestamp()
where backfill_id = %(backfill_id)s and state = 'waiting'
  and (%(external_id)s::text is null or external_id = %(external_id)s)
  and (%(ends_at)s::timestamptz is null or ends_at <= %(ends_at)s)

-- name: mark_waiting
-- Try the failed chunks of a backfill again, and with `all` those that a plan did not allow.
update backfill_chunks set state = 'waiting', error = null, run_id = null, updated_at = clock_timestamp()
where backfill_id = any (%(backfills)s) and (state = 'failed' or (%(all)s and state = 'not allowed'))

-- name: count_chunks
-- How far backfills are.
select count(*) as total,
       count(*) filter (where state = 'done') as done,
       count(*) filter (where state = 'failed') as failed,
       count(*) filter (where state = 'not allowed') as not_allowed,
       count(*) filter (where state in ('waiting', 'running')) as open
from backfill_chunks where backfill_id = any (%(backfills)s)

-- name: list_chunk_errors
-- Why chunks were not loaded, and how many for the same reason.
select c.state, c.error, count(*) as chunks, min(c.external_id) as external_id
from backfill_chunks c
where c.backfill_id = any (%(backfills)s) and c.error is not null
group by c.state, c.error
order by min(c.number)
limit 20

-- name: list_top_assets
-- Active assets of a source by rank, those without one last.
select external_id from unified_data
where source = %(source)s and kind = 'asset' and status = 'active'
order by rank nulls last, external_id
limit %(limit)s

-- name: take_spare_call
-- Count one call of a backfill, if the budget has more room than the part that is kept for runs, and no run of the source is under way.
-- No row: wait. The limit that readers are told stays that of the source.
insert into etl_rate_limits as r (source, calls, calls_per_period, period_seconds)
select %(source)s, array[clock_timestamp()], %(limit)s::integer, %(seconds)s::float8
where not exists (select from etl_checkpoints c where c.source = %(source)s and c.lease_expires_at > clock_timestamp())
on conflict (source) do update
set calls = array(
        select c from unnest(r.calls) c where c > clock_timestamp() - make_interval(secs => %(seconds)s) and c <= clock_timestamp() order by c
    ) || clock_timestamp(),
    calls_per_period = excluded.calls_per_period,
    period_seconds = excluded.period_seconds
where (
    select count(*) from unnest(r.calls) c where c > clock_timestamp() - make_interval(secs => %(seconds)s) and c <= clock_timestamp()
) < %(spare)s
returning true

-- name: get_spare_wait
-- Seconds until it is worth asking again for a call of a backfill.
select least(greatest(extract(epoch from c + make_interval(secs => %(seconds)s) - clock_timestamp()), 0.01), 15)::float8 as wait
from etl_rate_limits r, unnest(r.calls) c
where r.source = %(source)s and c <= clock_timestamp()
order by c desc
offset %(spare)s - 1 limit 1
