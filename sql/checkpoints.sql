-- Checkpoints as people look at them, and start them anew.

-- name: list_checkpoints
-- Where every source stands, who holds it, its last run and how many records its runs read. Replays and backfills move no position, so
-- they count for neither; the table's own columns tell who held the lease last and what was loaded under it, whoever did.
select c.source, c.position, ended.records + coalesce(open.records, 0) as records_total, last.id as run_id, c.updated_at,
       case when c.lease_expires_at > clock_timestamp() then c.holder end as held_by
from etl_checkpoints c
cross join lateral (
    select coalesce(sum(t.records_extracted), 0)::bigint as records from run_totals t
    where t.source = c.source and t.trigger in ('cli', 'cron', 'api')
) ended
cross join lateral (
    select sum(r.records_extracted)::bigint as records from etl_runs r
    where r.source = c.source and r.finished_at is null and r.trigger in ('cli', 'cron', 'api')
) open
left join lateral (
    select r.id from etl_runs r
    where r.source = c.source and r.trigger in ('cli', 'cron', 'api') and r.status <> 'queued'
    order by r.finished_at desc nulls first, r.id desc limit 1
) last on true
where %(source)s::text is null or c.source = %(source)s
order by c.source

-- name: list_served
-- How many records of each source are served now.
select source, sum(records)::bigint as records from data_counts group by source

-- name: forget_position
-- Let a source start anew, if nobody holds it. A holder whose lease ran out writes nothing more.
update etl_checkpoints
set position = '{}', epoch = epoch + 1, updated_at = clock_timestamp()
where source = %(source)s
  and (lease_expires_at is null
       or lease_expires_at < clock_timestamp()
       or (backend_pid is not null
           and not exists (select from pg_stat_activity o where o.pid = backend_pid
                           and coalesce(o.backend_start, etl_checkpoints.backend_start) is not distinct from etl_checkpoints.backend_start)))
returning source
