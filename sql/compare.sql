-- Two runs side by side, and each against what is usual for its source.

-- name: list_runs_by_id
-- The runs with these ids, with what a comparison needs of each.
select r.id, r.source, r.trigger, r.status, r.started_at, r.finished_at, r.duration_seconds::float8 as duration_seconds,
       r.records_extracted, r.records_inserted, r.records_updated, r.records_unchanged, r.records_quarantined,
       r.error_type, r.error_message, r.resumed_from, r.host, r.version,
       (select count(*) from schema_drift d
        where d.source = r.source and d.first_seen_at between r.started_at and coalesce(r.finished_at, clock_timestamp())) as new_drift
from etl_runs r where r.id = any (%(ids)s::bigint[])

-- name: list_last_pairs
-- The ids of the last two runs of each source that came to an end; of backfills and replays none, for they are not the like of other runs.
-- A range of one trigger, ordered by it too, can only be read from the index of both: by id alone a trigger or a source that rests would cost
-- every run since.
select s.source, array(
    select e.id
    from (values ('cli'), ('cron'), ('api')) k (trigger)
    cross join lateral (
        select r.id from etl_runs r
        where r.source = s.source and r.trigger >= k.trigger and r.trigger <= k.trigger
          and r.finished_at is not null and r.started_at is not null
        order by r.trigger, r.id desc limit 2
    ) e
    order by e.id desc limit 2
) as ids
from (select distinct source from run_totals) s
order by s.source

-- name: get_usual_run
-- The medians of the runs of a source before this one that succeeded; scheduled runs, backfills and replays are each compared with their like.
-- Only runs that had something to load say how much is usual.
select count(*) as runs,
       count(*) filter (where records_extracted > 0) as loaded_runs,
       percentile_cont(0.5) within group (order by records_extracted) filter (where records_extracted > 0) as records_extracted,
       percentile_cont(0.5) within group (order by duration_seconds::float8) as duration_seconds,
       percentile_cont(0.5) within group (order by records_quarantined::float8 / records_extracted)
           filter (where records_extracted > 0) as quarantine_ratio,
       percentile_cont(0.5) within group (order by new_drift) as new_drift
from (
    select e.records_extracted, e.records_quarantined, e.duration_seconds,
           (select count(*) from schema_drift d where d.source = %(source)s and d.first_seen_at between e.started_at and e.finished_at) as new_drift
    from unnest(case when %(trigger)s::text in ('backfill', 'replay') then array[%(trigger)s::text] else array['cli', 'cron', 'api'] end) k (trigger)
    cross join lateral (
        select r.* from etl_runs r
        where r.source = %(source)s and r.trigger >= k.trigger and r.trigger <= k.trigger
          and r.id < %(run_id)s and r.status in ('success', 'partial')
        order by r.trigger, r.id desc limit %(last)s
    ) e
    order by e.id desc limit %(last)s
) recent
