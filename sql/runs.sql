-- Runs as people look at them.

-- name: get_run_facts
-- One run with everything its row knows.
select id, source, trigger, status, requested_at, started_at, finished_at,
       coalesce(duration_seconds, case when status = 'running' then round(extract(epoch from clock_timestamp() - started_at), 3) end)::float8
           as duration_seconds,
       records_extracted, records_inserted, records_updated, records_unchanged, records_quarantined,
       batches, bytes_extracted, snapshot_records, error_type, error_message, resumed_from, host, pid, version,
       (select min(r.id) from etl_runs r where r.resumed_from = t.id) as resumed_by
from etl_runs t where id = %(run_id)s

-- name: list_batches_of_run
-- The batches of a run: which records of which payload, what became of them, when.
select b.seq, b.raw_id, coalesce(r.url, p.url) as url, r.id is null as pruned, b.first_position, b.next_position,
       b.inserted, b.updated, b.unchanged, b.quarantined, b.committed_at
from etl_batches b
left join raw_payloads r on r.id = b.raw_id and r.source = b.source
left join pruned_payloads p on p.id = b.raw_id
where b.run_id = %(run_id)s
order by b.seq desc
limit %(limit)s

-- name: get_run_payload
-- The newest payload that a run was the first to keep, and how it begins; what was refused is found by it alone.
select p.id, p.url, p.fetched_at, encode(p.sha256, 'hex') as sha256, octet_length(p.body) as bytes, substring(p.body for %(head)s) as head
from raw_payloads p
where p.run_id = %(run_id)s
order by p.id desc
limit 1
