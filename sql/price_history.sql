-- price_history: one price of one asset at one moment, partitioned by month.

-- name: ensure_price_months
-- Make the partitions that the staged records need, and tell the time they cover: with it, a statement is planned over its months alone.
-- Records of one month, as most batches are, are looked at once.
select low, high, ensure_price_history(
    case when date_trunc('month', low at time zone 'UTC') = date_trunc('month', high at time zone 'UTC') then array[(low at time zone 'UTC')::date]
         else (select array_agg(distinct date_trunc('month', coalesce(source_updated_at, %(fetched_at)s) at time zone 'UTC')::date)
               from staged_records where kind = 'asset' and price_usd is not null) end) as made
from (
    select min(coalesce(source_updated_at, %(fetched_at)s)) as low, max(coalesce(source_updated_at, %(fetched_at)s)) as high
    from staged_records
    where kind = 'asset' and price_usd is not null
) covered

-- name: upsert_price_history
-- Note every dated price of the batch, and an undated one when it differs from the price served so far.
-- Runs before upsert_unified, which would make every price equal to the one served. An equal row is not written again.
-- What a run observes wins over what a backfill was told.
insert into price_history as h (source, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, run_id)
select %(source)s, s.external_id, s.observed_at, s.price_usd, s.market_cap_usd, s.volume_24h_usd, %(run_id)s
from (
    select distinct on (external_id, observed_at) external_id, observed_at, dated, price_usd, market_cap_usd, volume_24h_usd
    from (
        select external_id, coalesce(source_updated_at, %(fetched_at)s) as observed_at, source_updated_at is not null as dated,
               price_usd, market_cap_usd, volume_24h_usd, position
        from staged_records
        where kind = 'asset' and price_usd is not null
    ) observed
    order by external_id, observed_at, position desc
) s
left join lateral (
    select p.price_usd, p.market_cap_usd, p.volume_24h_usd, p.backfilled_at from price_history p
    where s.dated and p.source = %(source)s and p.external_id = s.external_id and p.observed_at = s.observed_at
      and p.observed_at >= %(low)s and p.observed_at <= %(high)s
    union all
    select u.price_usd, u.market_cap_usd, u.volume_24h_usd, null from unified_data u
    where not s.dated and u.external_id = s.external_id and u.source || '' = %(source)s
    limit 1
) known on true
where (s.price_usd, s.market_cap_usd, s.volume_24h_usd, null::timestamptz)
      is distinct from (known.price_usd, known.market_cap_usd, known.volume_24h_usd, known.backfilled_at)
order by s.external_id, s.observed_at
on conflict (source, external_id, observed_at) do update
set price_usd = excluded.price_usd, market_cap_usd = excluded.market_cap_usd, volume_24h_usd = excluded.volume_24h_usd,
    run_id = excluded.run_id, backfilled_at = null

-- name: upsert_points
-- Note the points of a backfill's chunk. One that a run observed stays, and so does one that was told later; an equal one is not written.
-- Of two values told at the same time for one moment the greater counts, so that the outcome does not depend on the order of chunks.
-- Keys are sorted, so two writers cannot deadlock.
with newest as (
    select distinct on (external_id, source_updated_at)
           external_id, source_updated_at as observed_at, price_usd, market_cap_usd, volume_24h_usd
    from staged_records
    order by external_id, source_updated_at, price_usd desc, market_cap_usd desc nulls last, volume_24h_usd desc nulls last
), changed as (
    select n.*, k.observed_at is null as unknown
    from newest n
    left join lateral (
        select p.observed_at, p.price_usd, p.market_cap_usd, p.volume_24h_usd, p.backfilled_at from price_history p
        where p.source = %(source)s and p.external_id = n.external_id and p.observed_at = n.observed_at
          and p.observed_at >= %(low)s and p.observed_at <= %(high)s
        limit 1
    ) k on true
    where k.observed_at is null
       or (k.backfilled_at <= %(told_at)s
           and (n.price_usd, n.market_cap_usd, n.volume_24h_usd) is distinct from (k.price_usd, k.market_cap_usd, k.volume_24h_usd))
), written as (
    insert into price_history as h (source, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, run_id, backfilled_at)
    select %(source)s, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, %(run_id)s, %(told_at)s
    from changed
    order by external_id, observed_at
    on conflict (source, external_id, observed_at) do update
    set price_usd = excluded.price_usd, market_cap_usd = excluded.market_cap_usd, volume_24h_usd = excluded.volume_24h_usd,
        run_id = excluded.run_id, backfilled_at = excluded.backfilled_at
    where h.backfilled_at < excluded.backfilled_at
       or (h.backfilled_at = excluded.backfilled_at
           and (excluded.price_usd, coalesce(excluded.market_cap_usd, -1), coalesce(excluded.volume_24h_usd, -1))
               > (h.price_usd, coalesce(h.market_cap_usd, -1), coalesce(h.volume_24h_usd, -1)))
    returning h.external_id, h.observed_at
)
select count(*) filter (where c.unknown) as inserted, count(*) filter (where not c.unknown) as updated
from written w join changed c using (external_id, observed_at)
