-- Runs: one row each, whose counters move in the same transaction as the records they count.

-- name: begin_run
-- Open a run that writes under the given epoch.
insert into etl_runs (source, trigger, status, started_at, resumed_from, epoch, host, pid, version)
values (%(source)s, %(trigger)s, 'running', clock_timestamp(), %(resumed_from)s, %(epoch)s, %(host)s, %(pid)s, %(version)s)
returning id, resumed_from

-- name: abandon_run
-- Close the run that a dead or expired holder left open. Safe: only the process that has just raised the epoch calls it.
update etl_runs
set status = 'abandoned', finished_at = clock_timestamp(),
    error_type = 'Abandoned', error_message = 'its process went away: the next run went on where it stopped'
where source = %(source)s and status = 'running' and trigger in ('cli', 'cron', 'api', 'replay')
returning id

-- name: count_run
-- Add one batch to the counters of a run that is still ours.
update etl_runs
set records_extracted = records_extracted + %(records)s,
    records_inserted = records_inserted + %(inserted)s,
    records_updated = records_updated + %(updated)s,
    records_unchanged = records_unchanged + %(unchanged)s,
    records_quarantined = records_quarantined + %(quarantined)s,
    batches = batches + 1,
    bytes_extracted = bytes_extracted + %(bytes)s
where id = %(run_id)s and status = 'running' and epoch = %(epoch)s

-- name: retake_run
-- Let a run of ours go on under the epoch just taken. No row: it was closed by another holder.
update etl_runs set epoch = %(epoch)s where id = %(run_id)s and status = 'running'
returning records_extracted

-- name: finish_run
-- Close a run that is still ours; a closed run is never reopened, so repeating this after a lost reply does no harm.
update etl_runs
set status = %(status)s, finished_at = clock_timestamp(), error_type = %(error_type)s, error_message = %(error_message)s,
    snapshot_records = %(snapshot_records)s
where id = %(run_id)s and status = 'running' and epoch = %(epoch)s

-- name: get_run
-- One run with its counters, as reports show it.
select id, source, trigger, status, started_at, finished_at, duration_seconds::float8 as duration_seconds,
       records_extracted, records_inserted, records_updated, records_unchanged, records_quarantined,
       error_type, error_message, resumed_from, host, version
from etl_runs where id = %(run_id)s

-- name: get_usual_snapshot
-- The median length of the upstream's list in the last five runs that saw it whole; null before the first.
-- A list that had under half of the ones before it was accepted by somebody: what is usual begins anew there.
with recent as (
    select id, snapshot_records from etl_runs
    where source = %(source)s and snapshot_records is not null and status in ('success', 'partial')
    order by id desc limit 10
), complete as (
    select *, row_number() over (order by id desc) as nth from recent
)
select percentile_disc(0.5) within group (order by snapshot_records) as records
from complete
where nth <= 5 and nth <= coalesce((
    select min(c.nth) from complete c
    where c.snapshot_records * 2 < (
        select percentile_disc(0.5) within group (order by b.snapshot_records)
        from complete b where b.nth > c.nth and b.nth <= c.nth + 5)
), 5)

-- name: list_source_status
-- A line a source for `status`: its last runs, its lease, what waits for a person. Ages are the database's.
select s.source,
       last.status as last_status, last.id as last_run_id, last.error_message as last_error, last.finished_at as last_finished_at,
       good.finished_at as last_success_at,
       extract(epoch from clock_timestamp() - good.finished_at)::float8 as lag_seconds,
       (select count(*) from quarantined_records q where q.source = s.source and q.resolved_at is null) as quarantined,
       (select count(*) from schema_drift d where d.source = s.source and d.accepted_at is null and d.resolved_at is null) as drift,
       (select c.holder from etl_checkpoints c where c.source = s.source and c.lease_expires_at > clock_timestamp()) as locked_by,
       coalesce((select c.lease_expires_at <= clock_timestamp() from etl_checkpoints c where c.source = s.source), false) as lease_expired
from unnest(%(sources)s::text[]) with ordinality as s(source, place)
left join lateral (
    select r.id, r.status, r.error_message, r.finished_at from etl_runs r
    where r.source = s.source and r.trigger in ('cli', 'cron', 'api') and r.status <> 'queued'
    order by r.finished_at desc nulls first, r.id desc limit 1     -- a run that waited in the queue has an older id than those meanwhile
) last on true
left join lateral (
    select r.finished_at from etl_runs r
    where r.source = s.source and r.trigger in ('cli', 'cron', 'api') and r.status in ('success', 'partial') order by r.id desc limit 1
) good on true
order by s.place

-- name: list_runs
-- A page of runs, newest first; each filter counts only when it is given.
select id, source, trigger, status, started_at, finished_at, duration_seconds::float8 as duration_seconds,
       records_extracted, records_inserted, records_updated, records_unchanged, records_quarantined,
       error_type, error_message, resumed_from, host, version
from etl_runs
where (%(source)s::text is null or source = %(source)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(before)s::bigint is null or id < %(before)s)
order by id desc
limit %(more)s
