-- The queue: rows of etl_runs with the status `queued`, and requests whose worker went away before they were done.

-- name: enqueue_runs
-- Queue a run of each source, or join what is queued. The only statement of the API that writes; what it returns is told in 0007_queue.sql.
select run_id as id, run_source as source, run_status as status, queued_at as requested_at, outcome
from enqueue_run(%(sources)s::text[], %(key_digest)s::bytea, %(request_digest)s::bytea)

-- name: list_queued
-- Sources that nobody holds and that have something to do, the oldest request first: a queued run, or one whose worker died or was stopped.
-- The last kind is what the source's last run says; a later one has done its work, but a replay or a backfill, which fetch nothing new, has not.
select w.source
from (
    select r.source, min(r.id) as first from etl_runs r where r.status = 'queued' group by r.source
    union all
    select r.source, r.id
    from etl_checkpoints c
    cross join lateral (
        select o.* from etl_runs o
        where o.source = c.source and o.trigger in ('cli', 'cron', 'api') and o.status <> 'queued'
        order by o.id desc limit 1
    ) r
    where r.trigger = 'api' and r.status in ('running', 'abandoned', 'cancelled') and r.attempt < %(attempts)s
) w
left join etl_checkpoints c on c.source = w.source
where w.source = any (%(sources)s::text[])
  and (c.lease_expires_at is null
       or c.lease_expires_at < clock_timestamp()
       or (c.backend_pid is not null
           and not exists (select from pg_stat_activity o where o.pid = c.backend_pid
                           and coalesce(o.backend_start, c.backend_start) is not distinct from c.backend_start)))
group by w.source
order by min(w.first)

-- name: begin_again
-- Open the next try of a request whose worker went away, under the lease just taken. No row: the last run of the source, replays and
-- backfills aside, was none, or it was tried too often.
insert into etl_runs (source, trigger, status, requested_at, started_at, resumed_from, epoch, host, pid, version, attempt)
select r.source, r.trigger, 'running', r.requested_at, clock_timestamp(), r.id, %(epoch)s, %(host)s, %(pid)s, %(version)s, r.attempt + 1
from etl_runs r
where r.id = (
        select o.id from etl_runs o
        where o.source = %(source)s and o.trigger in ('cli', 'cron', 'api') and o.status <> 'queued'
        order by o.id desc limit 1
    )
  and r.trigger = 'api' and r.status in ('abandoned', 'cancelled') and r.attempt < %(attempts)s
returning id, resumed_from

-- name: begin_queued
-- Turn the oldest queued run of a source into the running one, under the lease just taken. No row: nothing is queued any more.
-- One that a request is just joining is passed over: its notification comes right after.
update etl_runs
set status = 'running', started_at = clock_timestamp(), resumed_from = %(resumed_from)s, epoch = %(epoch)s,
    host = %(host)s, pid = %(pid)s, version = %(version)s
where id = (
    select r.id from etl_runs r where r.source = %(source)s and r.status = 'queued' order by r.id limit 1 for update skip locked
)
returning id, resumed_from

-- name: listen_queue
-- Be told of what is queued from now on.
listen kasparro_queue
