-- price_history: one price of one asset at one moment.

-- name: upsert_price_history
-- Note every dated price of the batch, and an undated one when it differs from the price served so far.
-- Runs before upsert_unified, which would make every price equal to the one served. An equal row is not written again.
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
    select p.price_usd, p.market_cap_usd, p.volume_24h_usd from price_history p
    where s.dated and p.source = %(source)s and p.external_id = s.external_id and p.observed_at = s.observed_at
    union all
    select u.price_usd, u.market_cap_usd, u.volume_24h_usd from unified_data u
    where not s.dated and u.source = %(source)s and u.external_id = s.external_id
    limit 1
) known on true
where (s.price_usd, s.market_cap_usd, s.volume_24h_usd) is distinct from (known.price_usd, known.market_cap_usd, known.volume_24h_usd)
order by s.external_id, s.observed_at
on conflict (source, external_id, observed_at) do update
set price_usd = excluded.price_usd, market_cap_usd = excluded.market_cap_usd, volume_24h_usd = excluded.volume_24h_usd, run_id = excluded.run_id
