-- Replays: stored payloads once more, into the live tables or into scratch ones to compare with what is served.

-- name: list_replays
-- What a replay loads, in the order in which the payloads were last loaded by a run: of one run, since a time, or all.
-- A payload of which a refused run loaded nothing is left out: `quarantine retry` is for that.
-- `last` is the number of that load, null for a payload that no run loaded; `loaded` is how many of its records were taken.
-- `aside`: it waits in quarantine as a whole. What a backfill stored has its own forms and its own ways to be loaded again.
select r.id, l.last, l.loaded, aside.open as aside
from raw_payloads r
left join etl_runs u on u.id = r.run_id
left join lateral (
    select max(b.seq) filter (where o.trigger is distinct from 'replay') as last, max(b.next_position) as loaded,
           max(b.committed_at) filter (where o.trigger is distinct from 'replay') as loaded_at,
           bool_or(b.run_id = %(run_id)s::bigint) as of_run
    from etl_batches b left join etl_runs o on o.id = b.run_id
    where b.raw_id = r.id and b.source = r.source
) l on true
cross join lateral (
    select exists (
        select from quarantined_records q where q.raw_id = r.id and q.source = r.source and q.raw_position is null and q.resolved_at is null
    ) as open
) aside
where r.source_type = %(source_type)s and r.source = %(source)s and u.trigger is distinct from 'backfill'
  and (%(run_id)s::bigint is null or r.run_id = %(run_id)s or l.of_run)
  and (%(since)s::timestamptz is null or coalesce(l.loaded_at, r.fetched_at) >= %(since)s)
  and (l.loaded is not null or aside.open)
order by coalesce(l.loaded_at, r.fetched_at), r.id

-- name: get_replay
-- One stored payload, ready to be parsed, with the beginning of the run that last took records of it, or of the replay or retry that first
-- did when no run has: renames accepted by then were in force.
select body, url, meta, fetched_at,
       (select coalesce(max(u.started_at) filter (where u.trigger is distinct from 'replay'), min(u.started_at))
        from etl_batches b join etl_runs u on u.id = b.run_id
        where b.raw_id = r.id and b.source = r.source and b.inserted + b.updated + b.unchanged > 0) as loaded_at
from raw_payloads r where source_type = %(source_type)s and id = %(id)s

-- name: count_pruned
-- How many payloads of a source that were loaded once are no longer kept.
select count(*) as pruned from pruned_payloads where source = %(source)s

-- name: upsert_replayed_prices
-- Note every price of the batch that history does not have: a dated one at its time, an undated one when it differs from the one before.
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
    select p.price_usd, p.market_cap_usd, p.volume_24h_usd, p.observed_at from price_history p
    where p.source = %(source)s and p.external_id = s.external_id and p.observed_at <= s.observed_at
      and p.observed_at <= %(high)s and (not s.dated or (p.observed_at = s.observed_at and p.observed_at >= %(low)s))
    order by p.observed_at desc
    limit 1
) known on true
where (s.price_usd, s.market_cap_usd, s.volume_24h_usd) is distinct from (known.price_usd, known.market_cap_usd, known.volume_24h_usd)
order by s.external_id, s.observed_at
on conflict (source, external_id, observed_at) do update
set price_usd = excluded.price_usd, market_cap_usd = excluded.market_cap_usd, volume_24h_usd = excluded.volume_24h_usd,
    run_id = excluded.run_id, backfilled_at = null

-- name: forget_outdated
-- Take from a replayed batch what must not stand over what is served: an older date (than one that proves something), a date that lay
-- in the future when it was fetched, and, among records without a date, one of a payload last loaded before the one that is served.
delete from staged_records s
using unified_data u
where u.external_id = s.external_id and u.source || '' = %(source)s
  and ((s.source_updated_at < u.source_updated_at
        and u.source_updated_at <= coalesce((select r.fetched_at from raw_payloads r where r.source_type = u.source_type and r.id = u.raw_id),
                                            u.updated_at) + interval '1 day')
       or s.source_updated_at > %(fetched_at)s::timestamptz + interval '1 day'
       or (s.source_updated_at is null and u.raw_id <> %(raw_id)s
           and coalesce((select max(b.seq) from etl_batches b left join etl_runs r on r.id = b.run_id
                         where b.raw_id = u.raw_id and b.source = u.source and r.trigger is distinct from 'replay'), 0)
               > coalesce((select max(b.seq) from etl_batches b left join etl_runs r on r.id = b.run_id
                           where b.raw_id = %(raw_id)s and b.source = %(source)s and r.trigger is distinct from 'replay'), 0)))

-- name: quarantine_replayed
-- A bad record that is known counts up and stays as it was decided: a later one may have closed it.
insert into quarantined_records as q (source, run_id, raw_id, raw_position, record, fingerprint, errors, external_id)
values (%(source)s, %(run_id)s, %(raw_id)s, %(position)s, %(record)b, %(fingerprint)b, %(errors)s, %(external_id)s)
on conflict (source, fingerprint) do update
set errors = excluded.errors, external_id = excluded.external_id, attempts = q.attempts + 1

-- name: resolve_replayed
-- Close the entries of the records that a replay found valid now, in the very payload they stand in.
update quarantined_records q set resolved_at = clock_timestamp()
where q.source = %(source)s and q.raw_id = %(raw_id)s and q.resolved_at is null
  and (q.raw_position is null or q.raw_position in (select position from staged_records))

-- name: mark_passed
-- Count a replay that found a payload as bad as it was, on the entries that hold it as a whole.
update quarantined_records set attempts = attempts + 1, last_seen_at = clock_timestamp()
where source = %(source)s and raw_id = %(raw_id)s and raw_position is null and resolved_at is null

-- name: count_known_invalid
-- How many records of a payload runs quarantined when they last loaded it, or a refused one that kept it.
select greatest(coalesce(sum(quarantined), 0), (
           select count(*) from quarantined_records q
           where q.source = %(source)s and q.raw_id = %(raw_id)s and q.raw_position is not null
       )) as invalid
from (
    select distinct on (b.first_position) b.quarantined
    from etl_batches b left join etl_runs r on r.id = b.run_id
    where b.source = %(source)s and b.raw_id = %(raw_id)s and r.trigger is distinct from 'replay'
    order by b.first_position, b.seq desc
) loaded
