-- etl_rate_limits: the calls of the last period, by the database's clock, shared by every process.

-- name: take_call
-- Count one call if the budget has room. No row: it has none.
insert into etl_rate_limits as r (source, calls) values (%(source)s, array[clock_timestamp()])
on conflict (source) do update
set calls = array(select c from unnest(r.calls) c where c > clock_timestamp() - make_interval(secs => %(seconds)s) order by c) || clock_timestamp()
where (select count(*) from unnest(r.calls) c where c > clock_timestamp() - make_interval(secs => %(seconds)s)) < %(limit)s
returning true

-- name: get_call_wait
-- Seconds until the budget has room for one call.
select greatest(extract(epoch from c + make_interval(secs => %(seconds)s) - clock_timestamp()), 0.01)::float8
from etl_rate_limits r, unnest(r.calls) c
where r.source = %(source)s
order by c desc
offset %(limit)s - 1 limit 1
