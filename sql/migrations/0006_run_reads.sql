-- What the API reads of runs at any number of them: totals that are kept, and an index for each filter.

-- Finished runs added up, a row for each source, trigger, outcome and class of duration. Runs under way are counted from etl_runs.
create table run_totals (
    source              text collate "C" not null,
    trigger             text not null,
    status              text not null,
    le                  double precision not null,      -- the duration's upper bound in seconds; NaN for a run that never started
    runs                bigint not null,
    records_extracted   bigint not null,
    records_inserted    bigint not null,
    records_updated     bigint not null,
    records_unchanged   bigint not null,
    records_quarantined bigint not null,
    seconds             numeric not null,
    last_run_id         bigint not null,
    last_finished_at    timestamptz not null,
    primary key (source, trigger, status, le)
);

create function run_duration_bounds() returns double precision[] language sql immutable parallel safe
return array[1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 'Infinity']::double precision[];

create view finished_runs as
select source, trigger, status, le, count(*) as runs,
       sum(records_extracted)::bigint as records_extracted, sum(records_inserted)::bigint as records_inserted,
       sum(records_updated)::bigint as records_updated, sum(records_unchanged)::bigint as records_unchanged,
       sum(records_quarantined)::bigint as records_quarantined,
       coalesce(sum(duration_seconds), 0) as seconds, max(id) as last_run_id, max(finished_at) as last_finished_at
from etl_runs
cross join lateral (
    select coalesce((select min(b) from unnest(run_duration_bounds()) b where duration_seconds <= b), 'NaN') as le
) class
where finished_at is not null
group by source, trigger, status, le;

-- Adds what a statement finished. A change to runs that were counted already, or their removal, counts their sources anew.
create function count_finished_runs() returns trigger language plpgsql as $$
declare
    touched text[];
begin
    if tg_op = 'TRUNCATE' then
        delete from run_totals;
        return null;
    end if;
    if tg_op = 'DELETE' then
        select array_agg(distinct o.source) into touched from old_rows o where o.finished_at is not null;
    elsif tg_op = 'UPDATE' then
        select array_agg(distinct n.source) || array_agg(distinct o.source) into touched
        from old_rows o join new_rows n using (id) where o.finished_at is not null;
    end if;
    if touched is not null then
        lock table run_totals in share row exclusive mode;  -- another run's end must be in what is counted, or come after it
        delete from run_totals t where t.source = any (touched);
        insert into run_totals select f.* from finished_runs f where f.source = any (touched);
    elsif tg_op <> 'DELETE' then
        insert into run_totals as t
        select n.source, n.trigger, n.status, class.le, count(*),
               sum(n.records_extracted), sum(n.records_inserted), sum(n.records_updated), sum(n.records_unchanged),
               sum(n.records_quarantined), coalesce(sum(n.duration_seconds), 0), max(n.id), max(n.finished_at)
        from new_rows n
        cross join lateral (
            select coalesce((select min(b) from unnest(run_duration_bounds()) b where n.duration_seconds <= b), 'NaN') as le
        ) class
        where n.finished_at is not null
        group by n.source, n.trigger, n.status, class.le
        order by 1, 2, 3, 4
        on conflict (source, trigger, status, le) do update
        set runs = t.runs + excluded.runs,
            records_extracted = t.records_extracted + excluded.records_extracted,
            records_inserted = t.records_inserted + excluded.records_inserted,
            records_updated = t.records_updated + excluded.records_updated,
            records_unchanged = t.records_unchanged + excluded.records_unchanged,
            records_quarantined = t.records_quarantined + excluded.records_quarantined,
            seconds = t.seconds + excluded.seconds,
            last_run_id = greatest(t.last_run_id, excluded.last_run_id),
            last_finished_at = greatest(t.last_finished_at, excluded.last_finished_at);
    end if;
    return null;
end
$$;

create trigger count_inserted_runs after insert on etl_runs referencing new table as new_rows
    for each statement execute function count_finished_runs();
create trigger count_updated_runs after update on etl_runs referencing old table as old_rows new table as new_rows
    for each statement execute function count_finished_runs();
create trigger count_deleted_runs after delete on etl_runs referencing old table as old_rows
    for each statement execute function count_finished_runs();
create trigger count_truncated_runs after truncate on etl_runs
    for each statement execute function count_finished_runs();
insert into run_totals select * from finished_runs;     -- the triggers' lock keeps writers out until this is committed

create index etl_runs_by_status on etl_runs (status, id desc);
create index etl_runs_by_source_and_status on etl_runs (source, status, id desc);
create index etl_runs_unfinished on etl_runs (source, id) where finished_at is null;
create index etl_batches_of_run on etl_batches (run_id, seq);
drop index etl_batches_by_run;
create index quarantined_records_by_source on quarantined_records (source, id desc);
create index quarantined_records_by_run on quarantined_records (run_id, id desc);
create index schema_drift_by_run on schema_drift (run_id, id desc);
