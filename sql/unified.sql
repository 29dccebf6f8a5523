-- unified_data: the newest state of every asset and article.

-- name: create_staging
-- A table for one transaction: dropped with it, so a transaction-mode pooler may stand in between.
create temporary table staged_records (
    position           integer,
    kind               text,
    external_id        text collate "C",
    symbol             text collate "C",
    name               text,
    category           text,
    price_usd          numeric,
    market_cap_usd     numeric,
    volume_24h_usd     numeric,
    percent_change_24h numeric,
    rank               integer,
    url                text,
    tags               text[],
    source_updated_at  timestamptz
) on commit drop

-- name: stage_records
-- The batch goes over in one stream; an empty cell is null.
copy staged_records from stdin (format csv)

-- name: upsert_unified
-- Insert the new, update the changed, touch nothing else; an older source_updated_at never wins,
-- unless the one we have lies in the future, which proves nothing and would block the record for ever.
-- Of several records with one key the last one counts that is not older than those before it, as if each had come alone,
-- so that the outcome does not depend on how a payload was cut into batches; a record without a date proves nothing older and always
-- counts, under the greatest date known. The lateral look-up keeps the plan one probe of the key a record, whatever the planner thinks of a
-- table without statistics, or of a source that they do not know: `source || ''` fits no index that is led by the source and would be read from
-- end to end. The look-ups end before the first row is written, so that on an empty table they find nothing to read.
-- Keys are sorted, so two writers cannot deadlock. A row that another writer changed since the look-up is asked once more which one is newer.
-- What is replayed proves nothing of whether an asset is still active.
with newest as (
    select distinct on (s.external_id) s.*
    from (
        select *, max(source_updated_at) over of_one_key as newest_at from staged_records
        window of_one_key as (partition by external_id order by position desc rows between unbounded preceding and unbounded following)
    ) s
    where s.source_updated_at is null or s.source_updated_at = s.newest_at
    order by s.external_id, s.position desc
), changed as materialized (
    select n.*, d.dated
    from newest n
    left join lateral (
        select u.*, u.source_updated_at > %(fetched_at)s::timestamptz + interval '1 day' as ahead
        from unified_data u where u.external_id = n.external_id and u.source || '' = %(source)s limit 1
    ) t on true
    cross join lateral (
        select case when t.ahead then coalesce(n.newest_at, t.source_updated_at)
                    else greatest(n.newest_at, t.source_updated_at) end as dated
    ) d
    where t.id is null
       or ((n.source_updated_at is null or t.source_updated_at is null or n.newest_at >= t.source_updated_at or t.ahead)
           and (n.kind, n.symbol, n.name, n.category, n.price_usd, n.market_cap_usd, n.volume_24h_usd, n.percent_change_24h,
                n.rank, n.url, n.tags, d.dated, case when %(replay)s::boolean then t.status else 'active' end)
               is distinct from
               (t.kind, t.symbol, t.name, t.category, t.price_usd, t.market_cap_usd, t.volume_24h_usd, t.percent_change_24h,
                t.rank, t.url, t.tags, t.source_updated_at, t.status))
), written as (
    insert into unified_data as t (source, source_type, external_id, kind, symbol, name, category, price_usd, market_cap_usd,
                                   volume_24h_usd, percent_change_24h, rank, url, tags, source_updated_at, raw_id, raw_position, run_id)
    select %(source)s, %(source_type)s, external_id, kind, symbol, name, category, price_usd, market_cap_usd,
           volume_24h_usd, percent_change_24h, rank, url, tags, dated, %(raw_id)s, position, %(run_id)s
    from changed
    order by external_id
    on conflict (source, external_id) do update
    set kind = excluded.kind, symbol = excluded.symbol, name = excluded.name, category = excluded.category,
        price_usd = excluded.price_usd, market_cap_usd = excluded.market_cap_usd, volume_24h_usd = excluded.volume_24h_usd,
        percent_change_24h = excluded.percent_change_24h, rank = excluded.rank, url = excluded.url, tags = excluded.tags,
        source_updated_at = coalesce(excluded.source_updated_at, t.source_updated_at), updated_at = clock_timestamp(),
        status = case when %(replay)s::boolean then t.status else 'active' end, raw_id = excluded.raw_id, raw_position = excluded.raw_position, run_id = excluded.run_id
    where excluded.source_updated_at is null or t.source_updated_at is null or excluded.source_updated_at >= t.source_updated_at
       or t.source_updated_at > %(fetched_at)s::timestamptz + interval '1 day'
    returning xmax = 0 as inserted
)
select count(*) filter (where inserted) as inserted, count(*) filter (where not inserted) as updated from written

-- name: make_read_index
-- Make the next index that reads need and that is missing; its name, null when there is nothing to do.
select make_read_index() as name
