-- What the pages for people show beside what the API has: one statement each, bounded however much there is.

-- name: list_latest_runs
-- The newest runs of every source, as many as a strip shows; the newest of all are among them.
-- A range of one source, ordered by it too, can only be read from the index of both: by id alone a source that rests would cost every run since.
select r.*
from (
    select unnest(%(sources)s::text[]) collate "C" as source union select source from run_totals union select source from etl_checkpoints
    union select source from etl_runs where finished_at is null
) k
cross join lateral (
    select id, source, trigger, status, requested_at, started_at, finished_at, duration_seconds::float8 as duration_seconds,
           records_extracted, records_inserted, records_updated, records_unchanged, records_quarantined, batches,
           error_type, error_message, resumed_from, host, version,
           extract(epoch from clock_timestamp() - started_at)::float8 as seconds_since_start
    from etl_runs where source >= k.source and source <= k.source order by source, id desc limit %(limit)s
) r
order by r.id desc

-- name: get_board
-- One row with the rest of the dashboard: checkpoints and leases, budgets of calls, the oldest quarantined record of each source, the database.
select
    coalesce((
        select jsonb_object_agg(source, jsonb_build_object(
            'position', position, 'records', records_total, 'updated_at', updated_at, 'run_id', run_id,
            'seconds_since_update', extract(epoch from clock_timestamp() - updated_at),
            'holder', case when lease_expires_at > clock_timestamp() then holder end,
            'expired_seconds', case when lease_expires_at <= clock_timestamp() then extract(epoch from clock_timestamp() - lease_expires_at) end))
        from etl_checkpoints
    ), '{}') as checkpoints,
    coalesce((
        select jsonb_object_agg(source, jsonb_build_object(
            'calls', calls_per_period, 'seconds', period_seconds,
            'used', (select count(*) from unnest(calls) c
                     where c > clock_timestamp() - make_interval(secs => period_seconds) and c <= clock_timestamp())))
        from etl_rate_limits where calls_per_period is not null
    ), '{}') as budgets,
    coalesce((
        select jsonb_object_agg(s.source, o.entry)
        from (select unnest(%(sources)s::text[]) collate "C" as source) s
        cross join lateral (
            select jsonb_build_object('id', q.id, 'errors', q.errors, 'first_seen_at', q.first_seen_at, 'run_id', q.run_id) as entry
            from quarantined_records q
            where q.source >= s.source and q.source <= s.source and q.resolved_at is null order by q.source, q.id limit 1
        ) o
    ), '{}') as quarantine,
    (select max(name) from schema_migrations) as schema,
    (select max(version) from data_versions) as data_version,
    current_setting('server_version') as server,
    clock_timestamp() as now

-- name: get_run_board
-- A run and what lies around it: the finished run of its source and kind before it, the one that went on with its work,
-- whether it is the newest, whether its process is gone, and the newest payload it read, with how that begins.
-- The payload that was refused belongs to no batch; the run that kept it is written in it.
select
    r.id, r.source, r.trigger, r.status, r.requested_at, r.started_at, r.finished_at,
    coalesce(r.duration_seconds, case when r.status = 'running' then round(extract(epoch from clock_timestamp() - r.started_at), 3) end)::float8
        as duration_seconds,
    r.records_extracted, r.records_inserted, r.records_updated, r.records_unchanged, r.records_quarantined,
    r.batches, r.bytes_extracted, r.error_type, r.error_message, r.resumed_from, r.host, r.pid, r.version,
    (select min(n.id) from etl_runs n where n.resumed_from = r.id) as resumed_by,
    (select n.id from etl_runs n where n.source >= r.source and n.source <= r.source and n.status <> 'queued'
     order by n.source, n.id desc limit 1) = r.id as newest,
    r.status = 'running' and exists (select 1 from etl_checkpoints c where c.source = r.source and c.lease_expires_at <= clock_timestamp()) as stalled,
    (select max(p.id)
     from unnest(case when r.trigger in ('backfill', 'replay') then array[r.trigger] else array['cli', 'cron', 'api'] end) k (trigger)
     cross join lateral (
         select e.id from etl_runs e
         where e.source = r.source and e.trigger >= k.trigger and e.trigger <= k.trigger
           and e.id < r.id and e.finished_at is not null and e.started_at is not null
         order by e.trigger, e.id desc limit 1
     ) p) as previous,
    (select count(*) from quarantined_records q where q.run_id = r.id) as quarantined,
    of_run.raw_id, coalesce(p.url, x.url) as url, coalesce(p.fetched_at, x.fetched_at) as fetched_at, x.pruned_at,
    encode(coalesce(p.sha256, x.sha256), 'hex') as sha256, octet_length(p.body) as body_bytes, substring(p.body for %(head)s) as head
from etl_runs r
left join lateral (
    select coalesce(
        case when r.status = 'refused' then (select max(k.id) from raw_payloads k where k.run_id = r.id) end,
        (select b.raw_id from etl_batches b where b.run_id = r.id order by b.seq desc limit 1),
        (select q.raw_id from quarantined_records q where q.run_id = r.id order by q.id desc limit 1),
        (select max(k.id) from raw_payloads k where k.run_id = r.id),
        (select max(k.id) from pruned_payloads k where k.run_id = r.id)
    ) as raw_id
) of_run on true
left join raw_payloads p on p.source_type in ('api', 'csv', 'rss') and p.id = of_run.raw_id
left join pruned_payloads x on x.id = of_run.raw_id
where r.id = %(run_id)s

-- name: get_asset
-- A record by its source and the id upstream gave it, and how far its prices reach.
select u.*, p.first_at, p.last_at, clock_timestamp() as now
from unified_data u
left join lateral (
    select min(h.observed_at) as first_at, max(h.observed_at) as last_at
    from price_history h where h.source = u.source and h.external_id = u.external_id
) p on true
where u.source = %(source)s and u.external_id = %(external_id)s

-- name: list_chart_points
-- The prices of an asset in buckets: the last of each, its lowest and highest, and the first price of all. Where there are more prices than
-- `exact`, each bucket has its last one alone, found by the index, so that a picture costs the same however many there are; `sampled` says so.
with few as materialized (
    select count(*) <= %(exact)s as exact
    from (
        select from price_history h
        where h.source = %(source)s and h.external_id = %(external_id)s
          and h.observed_at >= %(from)s::timestamptz and h.observed_at < %(to)s::timestamptz
        limit %(exact)s + 1
    ) bounded
)
select max(h.observed_at) as at, (array_agg(h.price_usd order by h.observed_at desc))[1] as price,
       min(h.price_usd) as low, max(h.price_usd) as high, false as sampled
from price_history h
where (select exact from few) and h.source = %(source)s and h.external_id = %(external_id)s
  and h.observed_at >= %(from)s::timestamptz and h.observed_at < %(to)s::timestamptz
group by date_bin(%(bucket)s::interval, h.observed_at, %(from)s::timestamptz)
union
select p.observed_at, p.price_usd, p.price_usd, p.price_usd, true
from generate_series(%(from)s::timestamptz, %(to)s::timestamptz, %(bucket)s::interval) b
cross join lateral (
    select h.observed_at, h.price_usd from price_history h
    where h.source = %(source)s and h.external_id = %(external_id)s
      and h.observed_at >= b and h.observed_at < least(b + %(bucket)s::interval, %(to)s::timestamptz)
    order by h.observed_at desc limit 1
) p
where not (select exact from few)
union
(
    select h.observed_at, h.price_usd, h.price_usd, h.price_usd, not (select exact from few)
    from price_history h
    where h.source = %(source)s and h.external_id = %(external_id)s
      and h.observed_at >= %(from)s::timestamptz and h.observed_at < %(to)s::timestamptz
    order by h.observed_at limit 1
)
order by 1

-- name: list_search_hits
-- What has a text in its symbol or name: first where one of them is the text, then where one begins with it, then by rank.
-- Each of the three is looked for by itself and bounded, so that the best are among what is put in order however much there is.
with hits as materialized (
    select u.id, 3 as place from unified_data u where (E'\n' || coalesce(u.symbol, '') || E'\n' || u.name || E'\n') ilike %(q_like)s limit %(most)s
), best as materialized (
    (select u.id, 1 as place from unified_data u
     where (E'\n' || coalesce(u.symbol, '') || E'\n' || u.name || E'\n') ilike %(exact_like)s limit %(few)s)
    union all
    (select u.id, 2 from unified_data u
     where (E'\n' || coalesce(u.symbol, '') || E'\n' || u.name || E'\n') ilike %(begins_like)s limit %(few)s)
    union all
    select h.id, h.place from hits h
)
select u.source, u.external_id, u.kind, u.symbol, u.name, u.price_usd, (select count(*) from hits) as total
from (select b.id, min(b.place) as place from best b group by b.id) f
join unified_data u on u.id = f.id
order by f.place, u.rank nulls last, u.id
limit %(limit)s
