-- What the API reads by: indexes for every sort and filter, counts that need no counting, the version of the data.

do $$
begin
    create extension if not exists pg_trgm;
exception when undefined_file or insufficient_privilege or feature_not_supported then
    raise exception 'the extension pg_trgm cannot be created: install the contrib package of this Postgres, or have its owner run `create extension pg_trgm`';
end $$;

-- One index a sort key, led by the source: a query over several sources merges them. Read backwards it serves the descending order.
create index unified_data_by_id         on unified_data (source, id);
create index unified_data_by_updated_at on unified_data (source, updated_at, id);
create index unified_data_by_price      on unified_data (source, price_usd, id);
create index unified_data_by_market_cap on unified_data (source, market_cap_usd, id);
create index unified_data_by_rank       on unified_data (source, rank, id);
create index unified_data_by_name       on unified_data (source, (name collate "C"), id);
create index unified_data_by_category   on unified_data (category);
create index unified_data_inactive      on unified_data (source) where status = 'inactive';
create index unified_data_by_words      on unified_data using gin ((E'\n' || coalesce(symbol, '') || E'\n' || name || E'\n') gin_trgm_ops);

-- How many records of each sort there are.
create table data_counts (
    source      text collate "C" not null,
    source_type text not null,
    kind        text not null,
    category    text not null,
    status      text not null,
    records     bigint not null,
    primary key (source, source_type, kind, category, status)
);
create index data_counts_by_category on data_counts (category);

-- What the last commit changed: a page made under one version is right as long as that version stands.
create table data_versions (
    source      text collate "C" primary key,
    source_type text not null,
    version     bigint not null             -- microseconds, so that a database made anew never repeats one
);

-- Statement triggers, so that a batch pays once. Rows of different sources never meet, so writers of different sources never wait.
create function track_unified_data() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into data_counts as c (source, source_type, kind, category, status, records)
        select source, source_type, kind, category, status, count(*) from added group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
        on conflict (source, source_type, kind, category, status) do update set records = c.records + excluded.records;
        insert into data_versions as v (source, source_type, version)
        select distinct on (source) source, source_type, extract(epoch from clock_timestamp()) * 1000000 from added order by source
        on conflict (source) do update set version = greatest(v.version + 1, excluded.version);
    elsif tg_op = 'UPDATE' then
        insert into data_counts as c (source, source_type, kind, category, status, records)
        select source, source_type, kind, category, status, sum(step)
        from (
            select source, source_type, kind, category, status, 1 as step from added
            union all
            select source, source_type, kind, category, status, -1 from removed
        ) moved
        group by 1, 2, 3, 4, 5 having sum(step) <> 0 order by 1, 2, 3, 4, 5
        on conflict (source, source_type, kind, category, status) do update set records = c.records + excluded.records;
        insert into data_versions as v (source, source_type, version)
        select distinct on (source) source, source_type, extract(epoch from clock_timestamp()) * 1000000 from added order by source
        on conflict (source) do update set version = greatest(v.version + 1, excluded.version);
    elsif tg_op = 'DELETE' then
        insert into data_counts as c (source, source_type, kind, category, status, records)
        select source, source_type, kind, category, status, -count(*) from removed group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
        on conflict (source, source_type, kind, category, status) do update set records = c.records + excluded.records;
        insert into data_versions as v (source, source_type, version)
        select distinct on (source) source, source_type, extract(epoch from clock_timestamp()) * 1000000 from removed order by source
        on conflict (source) do update set version = greatest(v.version + 1, excluded.version);
    else
        delete from data_counts;
        update data_versions set version = greatest(version + 1, extract(epoch from clock_timestamp()) * 1000000);
    end if;
    return null;
end $$;
create trigger track_inserts after insert on unified_data
    referencing new table as added for each statement execute function track_unified_data();
create trigger track_updates after update on unified_data
    referencing old table as removed new table as added for each statement execute function track_unified_data();
create trigger track_deletes after delete on unified_data
    referencing old table as removed for each statement execute function track_unified_data();
create trigger track_truncation after truncate on unified_data for each statement execute function track_unified_data();

insert into data_counts
select source, source_type, kind, category, status, count(*) from unified_data group by 1, 2, 3, 4, 5;
insert into data_versions
select source, min(source_type), extract(epoch from clock_timestamp()) * 1000000 from unified_data group by 1;

-- How many records a payload has is known from its batches.
create index etl_batches_by_raw on etl_batches (raw_id);
