-- From a served record back to the bytes it was made of.

-- name: get_lineage
-- Where a record came from: the run that last wrote it, the payload as it is kept or as it was before its bytes were deleted,
-- and how many records were taken from that payload.
select u.id, u.source, u.source_type, u.external_id, u.raw_id, u.raw_position,
       r.id as run_id, r.trigger, r.status, r.started_at, r.finished_at, r.version,
       coalesce(p.url, x.url) as url, coalesce(p.fetched_at, x.fetched_at) as fetched_at,
       encode(coalesce(p.sha256, x.sha256), 'hex') as sha256, x.pruned_at, p.meta, p.body,
       (select max(b.next_position) from etl_batches b where b.raw_id = u.raw_id) as records
from unified_data u
left join etl_runs r on r.id = u.run_id
left join raw_payloads p on p.source_type = u.source_type and p.id = u.raw_id
left join pruned_payloads x on x.id = u.raw_id
where u.id = %(id)s
