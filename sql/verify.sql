-- Verification: stored payloads loaded into scratch tables of one transaction, compared with what is served.

-- name: create_served
-- What is served, under a name that the scratch tables do not hide.
create temporary view served_records as select * from unified_data

-- name: create_served_prices
-- The same of prices.
create temporary view served_prices as select * from price_history

-- name: create_scratch
-- An empty table that stands before the served one for the rest of the transaction, so that the statements of a run write to it.
create temporary table unified_data (
    like unified_data including defaults including identity including constraints, unique (source, external_id)
) on commit drop

-- name: create_scratch_prices
-- The same of prices.
create temporary table price_history (
    like price_history including defaults including constraints, unique (source, external_id, observed_at)
) on commit drop

-- name: has_scratch
-- Whether the scratch tables are what the names mean now: a search path may say otherwise.
select bool_and(relpersistence = 't') as scratch from pg_class where oid in ('unified_data'::regclass, 'price_history'::regclass)

-- name: bound_scratch
-- Bounds of a verification: its statements may take long, and so may parsing between them.
select set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)

-- name: get_staged_times
-- The time that the staged prices cover.
select min(coalesce(source_updated_at, %(fetched_at)s)) as low, max(coalesce(source_updated_at, %(fetched_at)s)) as high
from staged_records where kind = 'asset' and price_usd is not null

-- name: end_staging
-- Make room for the next batch of the same transaction.
drop table staged_records

-- name: count_verified
-- How many rows could be compared, and how many served ones could not: what they were read from is pruned or was not asked for.
-- With every payload at hand, none pruned, a replayed row is compared whatever the served one was read from.
select count(*) filter (where s.external_id is not null and n.external_id is not null
                        and ((%(whole)s::boolean and not %(pruned)s::boolean) or s.raw_id = any (%(chosen)s::bigint[]))) as compared,
       count(*) filter (where s.external_id is not null and (n.external_id is null or not %(whole)s::boolean or %(pruned)s::boolean)
                        and s.raw_id <> all (%(chosen)s::bigint[])) as unverified
from (select * from served_records where source = %(source)s) s
full join (select * from unified_data where source = %(source)s) n using (external_id)

-- name: list_differences
-- Row by row and field by field: what is served against what the payloads say. A row nobody can vouch for is left out.
select external_id, null::timestamptz as observed_at, d.difference, d.field, d.served, d.replayed
from (select * from served_records where source = %(source)s) s
full join (select * from unified_data where source = %(source)s) n using (external_id)
cross join lateral (
    select 'missing' as difference, null as field, null as served, null as replayed
    where s.source is null
    union all
    select 'extra', null, null, null where n.source is null and s.raw_id = any (%(chosen)s::bigint[])
    union all
    select 'changed', f.field, f.served, f.replayed
    from (values
        ('kind', s.kind, n.kind), ('symbol', s.symbol, n.symbol), ('name', s.name, n.name), ('category', s.category, n.category),
        ('price_usd', s.price_usd::text, n.price_usd::text), ('market_cap_usd', s.market_cap_usd::text, n.market_cap_usd::text),
        ('volume_24h_usd', s.volume_24h_usd::text, n.volume_24h_usd::text),
        ('percent_change_24h', s.percent_change_24h::text, n.percent_change_24h::text), ('rank', s.rank::text, n.rank::text),
        ('url', s.url, n.url), ('tags', s.tags::text, n.tags::text),
        ('source_updated_at', s.source_updated_at::text, n.source_updated_at::text)
    ) f(field, served, replayed)
    where s.source is not null and n.source is not null and f.served is distinct from f.replayed
      and ((%(whole)s::boolean and not %(pruned)s::boolean) or s.raw_id = any (%(chosen)s::bigint[]))
      and (f.field <> 'source_updated_at' or f.replayed is not null or (%(whole)s::boolean and not %(pruned)s::boolean))
) d
order by external_id, d.field

-- name: list_price_differences
-- Prices that the payloads tell and history does not have, or has otherwise. A price that history has beyond them is none:
-- it was backfilled, or seen again later in bytes that are stored once. Months that were dropped are no difference either.
-- Once something is pruned, only a price whose run has all its payloads still can be vouched for.
select external_id, observed_at, d.difference, d.field, d.served, d.replayed
from price_history n
left join served_prices s using (source, external_id, observed_at)
cross join lateral (
    select 'missing' as difference, null as field, null as served, null as replayed
    where s.run_id is null and %(whole)s::boolean and not %(pruned)s::boolean
      and n.observed_at >= (select min(o.observed_at) from served_prices o where o.source = %(source)s)
    union all
    select 'changed', f.field, f.served, f.replayed
    from (values
        ('price_usd', s.price_usd::text, n.price_usd::text), ('market_cap_usd', s.market_cap_usd::text, n.market_cap_usd::text),
        ('volume_24h_usd', s.volume_24h_usd::text, n.volume_24h_usd::text)
    ) f(field, served, replayed)
    where s.run_id is not null and f.served is distinct from f.replayed and %(whole)s::boolean
      and (not %(pruned)s::boolean
           or not exists (select from etl_batches b where b.run_id = s.run_id and b.raw_id <> all (%(chosen)s::bigint[])))
) d
where n.source = %(source)s
order by external_id, observed_at, d.field
