-- What Prometheus is told of the ETL. Counters come from run_totals and what runs right now, so they only grow.

-- name: list_run_totals
-- Finished runs and what they did, a line a source, outcome and class of duration.
select source, status, le, sum(runs)::bigint as runs, sum(seconds)::float8 as seconds,
       sum(records_inserted)::bigint as inserted, sum(records_updated)::bigint as updated,
       sum(records_unchanged)::bigint as unchanged, sum(records_quarantined)::bigint as quarantined
from run_totals group by source, status, le order by source, status, le

-- name: list_duration_bounds
-- The upper bounds of the histogram of durations, in seconds.
select unnest(run_duration_bounds()) as le

-- name: list_source_gauges
-- A line a source: what is under way, what is stored, what waits for a person, when it last succeeded.
with unfinished as (
    select source, count(*) filter (where status = 'running') as running, count(*) filter (where status = 'queued') as queued,
           sum(records_inserted) as inserted, sum(records_updated) as updated, sum(records_unchanged) as unchanged,
           sum(records_quarantined) as quarantined
    from etl_runs where finished_at is null group by source
), good as (
    select source, max(last_finished_at) as at
    from run_totals where trigger in ('cli', 'cron', 'api') and status in ('success', 'partial') group by source
), open as (
    select source, count(*) as records from quarantined_records where resolved_at is null group by source
), drift as (
    select source, count(*) as changes from schema_drift where accepted_at is null and resolved_at is null group by source
), stored as (
    select source, sum(records) as records from data_counts group by source
), known as (
    select unnest(%(sources)s::text[]) collate "C" as source union select source from run_totals union select source from unfinished
    union select source from open union select source from drift union select source from stored union select source from etl_checkpoints
)
select k.source,
       coalesce(u.running, 0) as running, coalesce(u.queued, 0) as queued,
       coalesce(u.inserted, 0)::bigint as inserted, coalesce(u.updated, 0)::bigint as updated,
       coalesce(u.unchanged, 0)::bigint as unchanged, coalesce(u.quarantined, 0)::bigint as quarantined,
       extract(epoch from g.at)::float8 as last_success, coalesce(o.records, 0) as open_quarantined,
       coalesce(d.changes, 0) as open_drift, coalesce(s.records, 0)::bigint as stored
from known k
left join unfinished u using (source)
left join good g using (source)
left join open o using (source)
left join drift d using (source)
left join stored s using (source)
order by k.source

-- name: list_rate_limits
-- How much of each source's budget of calls is used in its present period.
select source, calls_per_period, period_seconds,
       (select count(*)::integer from unnest(calls) c
        where c > clock_timestamp() - make_interval(secs => period_seconds) and c <= clock_timestamp()) as current_calls
from etl_rate_limits order by source
