-- etl_rate_limits: the calls of the last period, by the database's clock, shared by every process.

-- name: take_call
-- Count one call if the budget has room. No row: it has none. A call that a clock set back puts into the future does not count.
insert into etl_rate_limits as r (source, calls, calls_per_period, period_seconds)
values (%(source)s, array[clock_timestamp()], %(limit)s, %(seconds)s)
on conflict (source) do update
set calls = array(
        select c from unnest(r.calls) c where c > clock_timestamp() - make_interval(secs => %(seconds)s) and c <= clock_timestamp() order by c
    ) || clock_timestamp(),
    calls_per_period = excluded.calls_per_period,
    period_seconds = excluded.period_seconds
where (
    select count(*) from unnest(r.calls) c where c > clock_timestamp() - make_interval(secs => %(seconds)s) and c <= clock_timestamp()
) < %(limit)s
returning true

-- name: get_call_wait
-- Seconds until the budget has room for one call.
select greatest(extract(epoch from c + make_interval(secs => %(seconds)s) - clock_timestamp()), 0.01)::float8
from etl_rate_limits r, unnest(r.calls) c
where r.source = %(source)s and c <= clock_timestamp()
order by c desc
offset %(limit)s - 1 limit 1

-- name: get_rate_limit
-- The limit of a source and how many calls of its present period are used.
select
    source,
    calls_per_period,
    period_seconds,
    (
        select count(*)::integer from unnest(calls) c
        where c > clock_timestamp() - make_interval(secs => period_seconds) and c <= clock_timestamp()
    ) as current_calls
from etl_rate_limits
where source = %(source)s
