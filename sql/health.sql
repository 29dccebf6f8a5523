-- How every source stands, for probes: the same rules as `kasparro-etl status`. Backfills and replays say nothing of freshness.

-- name: list_source_health
-- A line a source: its last run, its last success, whether it runs, whether the process of that run is gone; in each whether the
-- database had a migration.
with finished as (
    select source,
           max(last_finished_at) filter (where status in ('success', 'partial')) as last_success_at,
           (array_agg(status order by last_finished_at desc, last_run_id desc))[1] as status
    from run_totals where trigger in ('cli', 'cron', 'api') group by source
), running as (
    select r.source, max(r.id) as run_id, bool_or(coalesce(c.lease_expires_at <= clock_timestamp(), false)) as stalled
    from etl_runs r left join etl_checkpoints c using (source)
    where r.finished_at is null and r.status = 'running' and r.trigger in ('cli', 'cron', 'api') group by r.source
), known as (
    select unnest(%(sources)s::text[]) collate "C" as source union select source from finished union select source from running
    union select source from etl_checkpoints
)
select k.source,
       case when r.run_id is not null then 'running' else f.status end as last_run_status,
       coalesce(r.stalled, false) as stalled,
       f.last_success_at,
       extract(epoch from clock_timestamp() - f.last_success_at)::float8 as lag_seconds,
       exists (select from schema_migrations where name = %(newest)s) as migrated
from known k
left join finished f using (source)
left join running r using (source)
order by array_position(%(sources)s::text[] collate "C", k.source), k.source
