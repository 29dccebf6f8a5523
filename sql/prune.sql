-- Pruning: raw payloads that nothing needs any more.

-- name: lock_source
-- Keep the batches of a source out for the length of a transaction: they begin with the same row.
select source from etl_checkpoints where source = %(source)s for update

-- name: list_prunable
-- Sources with raw payloads, and how many of them are old, in bytes as stored; what is needed still is not counted.
-- A payload is as old as its last load, and needed as long as an open quarantine entry or an interrupted run stands in it.
select r.source, count(*) as payloads, coalesce(sum(pg_column_size(r.body)), 0)::bigint as bytes
from raw_payloads r
where r.fetched_at < clock_timestamp() - make_interval(secs => %(age)s)
  and not exists (select from etl_batches b where b.raw_id = r.id and b.committed_at >= clock_timestamp() - make_interval(secs => %(age)s))
  and not exists (select from quarantined_records q where q.raw_id = r.id and q.source = r.source and q.resolved_at is null)
  and not exists (select from etl_checkpoints c
                  where c.source = r.source and c.position -> 'pending' ->> 'sha256' = encode(r.sha256, 'hex'))
group by r.source
order by r.source

-- name: forget_raw
-- Delete some old payloads of a source that nothing needs, and keep what is known of them. Returns how many, and their bytes.
with old as (
    select r.source_type, r.id, pg_column_size(r.body) as bytes
    from raw_payloads r
    where r.source = %(source)s and r.fetched_at < clock_timestamp() - make_interval(secs => %(age)s)
      and not exists (select from etl_batches b where b.raw_id = r.id and b.committed_at >= clock_timestamp() - make_interval(secs => %(age)s))
      and not exists (select from quarantined_records q where q.raw_id = r.id and q.source = r.source and q.resolved_at is null)
      and not exists (select from etl_checkpoints c
                      where c.source = r.source and c.position -> 'pending' ->> 'sha256' = encode(r.sha256, 'hex'))
    order by r.id
    limit %(limit)s
), gone as (
    delete from raw_payloads r using old where r.source_type = old.source_type and r.id = old.id
    returning r.id, r.source_type, r.source, r.run_id, r.fetched_at, r.url, r.sha256, old.bytes
), kept as (
    insert into pruned_payloads (id, source_type, source, run_id, fetched_at, url, sha256)
    select id, source_type, source, run_id, fetched_at, url, sha256 from gone
    returning id
)
select count(*) as payloads, coalesce(sum(gone.bytes), 0)::bigint as bytes from gone join kept using (id)

-- name: has_prices
-- Whether price history is ours: only its owner drops months.
select pg_has_role(relowner, 'usage') as ours from pg_class where oid = 'price_history'::regclass

-- name: list_old_prices
-- Months of price history that ended so many seconds ago, oldest first, and what lies before 2009 as a whole: bytes, about how many points if
-- Postgres has counted them, and whether we may drop them.
with months as (
    select c.oid, c.relname as name, pg_total_relation_size(c.oid) as bytes, case when c.reltuples >= 0 then c.reltuples::bigint end as points,
           pg_has_role(c.relowner, 'usage') as ours,
           case when c.relname = 'price_history_early' then timestamptz '2009-01-01 00:00+00'
                else (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' end as ends_at
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'price_history'::regclass
      and (c.relname ~ '^price_history_\d{4}_\d\d$' or c.relname = 'price_history_early' and exists (select from price_history_early))
)
select name, bytes, points, ours, ends_at from months
where ends_at <= clock_timestamp() - make_interval(secs => %(age)s)
order by ends_at

-- name: has_unsettled_prices
-- Whether points that old still lie beside the months.
select exists (
    select from price_history_rest where observed_at < clock_timestamp() - make_interval(secs => %(age)s)
) as unsettled

-- name: forget_unsettled
-- Move what lies beside the months into them.
select settle_price_history() as made

-- name: bound_drop
-- Readers queue behind a drop that waits, so it waits a moment only.
select set_config('lock_timeout', '1s', true)

-- name: forget_prices
-- Drop every month that ended by a moment.
select drop_price_history(%(ends_at)s) as name
