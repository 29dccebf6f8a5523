-- Totals over all runs: what is finished comes from run_totals, which triggers keep, what is under way from etl_runs.

-- name: list_source_totals
-- A line a source with its runs, records and outcomes; the sources given are there even before they ran.
with finished as (
    select source, sum(runs) as runs,
           sum(runs) filter (where status in ('success', 'partial')) as succeeded,
           sum(runs) filter (where status in ('failed', 'refused', 'abandoned')) as failed,
           sum(runs) filter (where le <> 'NaN') as timed,
           sum(seconds) as seconds,
           sum(records_extracted) as processed,
           max(last_finished_at) filter (where status in ('success', 'partial')) as last_success_at,
           max(last_finished_at) filter (where status in ('failed', 'refused', 'abandoned')) as last_failure_at,
           max(last_run_id) filter (where status in ('failed', 'refused', 'abandoned')) as last_failed_id
    from run_totals group by source
), unfinished as (
    select source, count(*) as runs, sum(records_extracted) as processed from etl_runs where finished_at is null group by source
), stored as (
    select source, sum(records) as records from data_counts group by source
), known as (
    select unnest(%(sources)s::text[]) collate "C" as source union select source from finished union select source from unfinished
    union select source from stored union select source from etl_checkpoints
)
select k.source,
       coalesce(s.records, 0)::bigint as records_total,
       (coalesce(f.runs, 0) + coalesce(u.runs, 0))::bigint as runs_total,
       coalesce(f.succeeded, 0)::bigint as runs_succeeded,
       coalesce(f.failed, 0)::bigint as runs_failed,
       (coalesce(f.processed, 0) + coalesce(u.processed, 0))::bigint as records_processed,
       f.last_success_at, f.last_failure_at,
       round(f.seconds / nullif(f.timed, 0), 3)::float8 as average_duration_seconds,
       coalesce(r.error_message, r.error_type) as last_error
from known k
left join finished f using (source)
left join unfinished u using (source)
left join stored s using (source)
left join etl_runs r on r.id = f.last_failed_id
order by array_position(%(sources)s::text[] collate "C", k.source), k.source
