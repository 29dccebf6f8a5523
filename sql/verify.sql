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
    like unified_data including defaults including identity including constraints, unique (external_id, source)
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

-- name: list_loads
-- What runs took of the chosen payloads, load after load: which records, under which run, and until when.
-- Of a payload that came back, a load in between that wrote nothing is left out. `came_back`: these bytes were loaded before, so when
-- upstream said them this time is not stored. What only a replay took comes where its payload was loaded last, or else was fetched.
with batches as (
    select b.raw_id, b.run_id, b.seq, b.first_position, b.next_position, b.inserted + b.updated as written, b.committed_at,
           r.trigger is not distinct from 'replay' as replayed
    from etl_batches b left join etl_runs r on r.id = b.run_id
    where b.source = %(source)s and b.raw_id = any (%(chosen)s::bigint[])
), cut as (
    select *, (raw_id, run_id, first_position) is distinct from (lag(raw_id) over w, lag(run_id) over w, lag(next_position) over w) as begins
    from batches where not replayed
    window w as (order by seq)
), loads as (
    select raw_id, run_id, min(first_position) as first, max(next_position) as next, sum(written) as written, max(committed_at) as loaded_at
    from (select *, count(*) filter (where begins) over (order by seq) as load from cut) numbered
    group by raw_id, run_id, load
), beside as (
    select *, max(next) over (partition by raw_id order by loaded_at rows between unbounded preceding and 1 preceding) as before,
           max(next) filter (where first = 0)
               over (partition by raw_id order by loaded_at rows between 1 following and unbounded following) as after
    from loads
), replays as (
    select b.raw_id, max(b.run_id) as run_id, greatest(b.first_position, max(l.next)) as first, b.next_position as next,
           max(l.loaded_at) as loaded_at
    from batches b left join (select raw_id, max(next) as next, max(loaded_at) as loaded_at from loads group by raw_id) l using (raw_id)
    where b.replayed
    group by b.raw_id, b.first_position, b.next_position
    having b.next_position > coalesce(max(l.next), 0)
)
select raw_id, run_id, first, next, loaded_at, before is not null and first = 0 as came_back
from beside
where written > 0 or before is null or before < next or after is null or after < next
union all
select p.raw_id, p.run_id, p.first, p.next, coalesce(p.loaded_at, r.fetched_at), false
from replays p left join raw_payloads r on r.source_type = %(source_type)s and r.id = p.raw_id
order by loaded_at, raw_id, first

-- name: get_staged_times
-- The time that the staged prices cover.
select min(coalesce(source_updated_at, %(fetched_at)s)) as low, max(coalesce(source_updated_at, %(fetched_at)s)) as high
from staged_records where kind = 'asset' and price_usd is not null

-- name: end_staging
-- Make room for the next batch of the same transaction.
drop table staged_records

-- name: count_verified
-- How many rows could be compared, and how many served ones could not: what they were read from is pruned or was not asked for.
-- With every payload at hand, none pruned, a replayed row is compared whatever the served one was read from, but for a backfill.
select count(*) filter (where s.external_id is not null and n.external_id is not null and s.told) as compared,
       count(*) filter (where s.external_id is not null and (n.external_id is null or not s.told)
                        and s.raw_id <> all (%(chosen)s::bigint[])) as unverified
from (
    select s.external_id, s.raw_id, s.raw_id = any (%(chosen)s::bigint[]) or %(whole)s::boolean and not %(pruned)s::boolean and not exists (
        select from raw_payloads p join etl_runs r on r.id = p.run_id
        where p.source_type = s.source_type and p.id = s.raw_id and r.trigger = 'backfill') as told
    from served_records s where s.source = %(source)s
) s
full join (select * from unified_data where source = %(source)s) n using (external_id)

-- name: list_differences
-- Row by row and field by field: what is served against what the payloads say. A row nobody can vouch for is left out.
select external_id, null::timestamptz as observed_at, d.difference, d.field, d.served, d.replayed
from (
    select s.*, s.raw_id = any (%(chosen)s::bigint[]) or %(whole)s::boolean and not %(pruned)s::boolean and not exists (
        select from raw_payloads p join etl_runs r on r.id = p.run_id
        where p.source_type = s.source_type and p.id = s.raw_id and r.trigger = 'backfill') as told
    from served_records s where s.source = %(source)s
) s
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
      and s.told
      and (f.field <> 'source_updated_at' or f.replayed is not null or (%(whole)s::boolean and not %(pruned)s::boolean))
) d
order by external_id, d.field

-- name: list_price_differences
-- Prices that the payloads tell and history does not have, or has otherwise. A price that history has beyond them is none:
-- it was backfilled, or seen again later in bytes that are stored once. Months that were dropped are no difference either.
-- Once something is pruned, only a price whose run has all its payloads still can be vouched for.
-- A price without a date of its own is not missing where history says the same of that moment. One of a payload that came back has
-- its run, and for its time the end of that load: the served one is of the same run, or the last before.
select external_id, observed_at, d.difference, d.field, d.served, d.replayed
from price_history n
left join served_prices s using (source, external_id, observed_at)
cross join lateral (
    select 'missing' as difference, null as field, null as served, null as replayed
    where s.run_id is null and %(whole)s::boolean and not %(pruned)s::boolean
      and n.observed_at >= (select min(o.observed_at) from served_prices o where o.source = %(source)s)
      and not exists (
          select from served_prices o
          where o.source = n.source and o.external_id = n.external_id and o.run_id = n.run_id
            and (o.price_usd, o.market_cap_usd, o.volume_24h_usd) is not distinct from (n.price_usd, n.market_cap_usd, n.volume_24h_usd)
      )
      and not (
          (n.run_id <> 0 or exists (select from raw_payloads r where r.id = any (%(chosen)s::bigint[]) and r.fetched_at = n.observed_at))
          and (n.price_usd, n.market_cap_usd, n.volume_24h_usd) is not distinct from (
              select o from (
                  select o.price_usd, o.market_cap_usd, o.volume_24h_usd from served_prices o
                  where o.source = n.source and o.external_id = n.external_id and o.observed_at <= n.observed_at
                  order by o.observed_at desc limit 1
              ) o
          )
      )
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
