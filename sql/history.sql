-- price_history as the API reads it: always one asset between two moments, so that only the months in between are looked at.

-- name: has_record
-- Whether a source has this record.
select exists (select from unified_data where external_id = %(external_id)s and source || '' = %(source)s) as known

-- name: list_prices
-- The prices of an asset from one moment to before another, oldest first, and the moment at which the page behind begins.
with found as materialized (
    select h.observed_at, h.price_usd, h.market_cap_usd, h.volume_24h_usd, row_number() over (order by h.observed_at) as place
    from price_history h
    where h.source = %(source)s and h.external_id = %(external_id)s
      and h.observed_at >= %(from)s::timestamptz and h.observed_at < %(to)s::timestamptz
    order by h.observed_at
    limit %(limit)s + 1
)
select coalesce(string_agg(row_to_json(d)::text, ',' order by f.observed_at) filter (where f.place <= %(limit)s), '') as body,
       max(f.observed_at) filter (where f.place > %(limit)s) as following
from found f
cross join lateral (
    select btrim(to_json(f.observed_at at time zone 'UTC')::text, '"') || 'Z' as observed_at, f.price_usd, f.market_cap_usd, f.volume_24h_usd
) d

-- name: list_price_buckets
-- The same in buckets of UTC hours or days. They begin with the first price in the range and span no more than a page,
-- so that a page reads no more than it answers with, however long the history is.
with span as materialized (
    select s.start, least(%(to)s::timestamptz, s.start + %(limit)s * %(bucket)s::interval) as stop
    from (
        select date_bin(%(bucket)s::interval, min(h.observed_at), timestamptz '2000-01-01 00:00:00+00') as start
        from price_history h
        where h.source = %(source)s and h.external_id = %(external_id)s
          and h.observed_at >= %(from)s::timestamptz and h.observed_at < %(to)s::timestamptz
    ) s
), buckets as (
    select date_bin(%(bucket)s::interval, h.observed_at, timestamptz '2000-01-01 00:00:00+00') as observed_at,
           (array_agg(h.price_usd order by h.observed_at))[1] as open, max(h.price_usd) as high, min(h.price_usd) as low,
           (array_agg(h.price_usd order by h.observed_at desc))[1] as close,
           (array_agg(h.volume_24h_usd order by h.observed_at desc))[1] as volume_24h_usd,
           count(*) as prices
    from price_history h
    where h.source = %(source)s and h.external_id = %(external_id)s
      and h.observed_at >= greatest(%(from)s::timestamptz, (select start from span)) and h.observed_at < (select stop from span)
    group by 1
)
select coalesce(string_agg(row_to_json(d)::text, ',' order by b.observed_at), '') as body,
       (
           select date_bin(%(bucket)s::interval, min(h.observed_at), timestamptz '2000-01-01 00:00:00+00')
           from price_history h
           where h.source = %(source)s and h.external_id = %(external_id)s
             and h.observed_at >= (select stop from span) and h.observed_at < %(to)s::timestamptz
       ) as following
from buckets b
cross join lateral (
    select btrim(to_json(b.observed_at at time zone 'UTC')::text, '"') || 'Z' as observed_at, b.open, b.high, b.low, b.close, b.volume_24h_usd, b.prices
) d
