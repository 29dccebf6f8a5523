-- What belongs to a run, and pages of what waits for a person.

-- name: list_batch_page
-- A page of a run's batches in the order they were committed.
select seq, raw_id, first_position, next_position, inserted, updated, unchanged, quarantined, committed_at
from etl_batches where run_id = %(run_id)s and seq > %(after)s order by seq limit %(more)s

-- name: list_quarantine_page
-- A page of quarantined records, newest first, with the beginning of each record; each filter counts only when it is given.
select id, source, run_id, raw_id, raw_position, substring(record for 2000) as beginning, octet_length(record) as record_bytes, errors,
       first_seen_at, last_seen_at, attempts, resolved_at
from quarantined_records
where (%(source)s::text is null or source = %(source)s)
  and (%(run_id)s::bigint is null or run_id = %(run_id)s)
  and (%(all)s::boolean or resolved_at is null)
  and (%(before)s::bigint is null or id < %(before)s)
order by id desc limit %(more)s

-- name: count_run_quarantine
-- How many quarantined records a run was the last to see.
select count(*) as records from quarantined_records where run_id = %(run_id)s

-- name: list_drift_page
-- A page of changes in what upstreams send, newest first; each filter counts only when it is given.
select id, source, field, change, suggested_field, confidence::float8 as confidence, sample, first_seen_at, last_seen_at, accepted_at,
       resolved_at, run_id
from schema_drift
where (%(source)s::text is null or source = %(source)s)
  and (%(run_id)s::bigint is null or run_id = %(run_id)s)
  and (%(change)s::text is null or change = %(change)s)
  and (%(all)s::boolean or (accepted_at is null and resolved_at is null))
  and (%(before)s::bigint is null or id < %(before)s)
order by id desc limit %(more)s

-- name: count_run_batches
-- How many batches a run committed.
select batches from etl_runs where id = %(run_id)s
