-- Checkpoints: one row a source is lease, fencing epoch and position.

-- name: ensure_checkpoint
-- Make the row of a source that never ran.
insert into etl_checkpoints (source) values (%(source)s) on conflict (source) do nothing

-- name: acquire_lease
-- Take the lease when it is free, has run out, or its holder's session is gone from the server. No row: somebody holds it.
-- Raising the epoch is what makes every earlier holder harmless.
-- A session of another role is seen by its number, but not since when, without the rights of pg_read_all_stats: then its number says it is there.
update etl_checkpoints c
set epoch = c.epoch + 1, holder = %(holder)s,
    backend_pid = a.pid, backend_start = a.backend_start,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
from (values (0)) as one
left join pg_stat_activity a on a.pid = %(backend_pid)s
where c.source = %(source)s
  and (c.lease_expires_at is null
       or c.lease_expires_at < clock_timestamp()
       or (c.backend_pid is not null
           and not exists (select from pg_stat_activity o where o.pid = c.backend_pid
                           and coalesce(o.backend_start, c.backend_start) is not distinct from c.backend_start)))
returning c.epoch, c.seq, c.position, c.run_id as previous_run_id

-- name: end_sleeper
-- End the session of a holder whose lease ran out inside a transaction: one that stopped in a COPY is ended by no timeout.
select pg_terminate_backend(a.pid, 5000) from etl_checkpoints c
join pg_stat_activity a on a.pid = c.backend_pid and a.backend_start is not distinct from c.backend_start
where c.source = %(source)s and c.lease_expires_at < clock_timestamp()

-- name: retake_lease
-- Take a lease of our own again after the connection was lost, whatever the server still believes of the old one.
-- The new epoch makes a transaction harmless that may yet be under way there. No row: another run took over.
update etl_checkpoints c
set epoch = c.epoch + 1, backend_pid = a.pid, backend_start = a.backend_start,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
from (values (0)) as one
left join pg_stat_activity a on a.pid = %(backend_pid)s
where c.source = %(source)s and c.epoch = %(epoch)s and c.run_id = %(run_id)s
returning c.epoch, c.seq, c.position

-- name: hold_lease
-- Note which run the lease was taken for.
update etl_checkpoints set run_id = %(run_id)s where source = %(source)s and epoch = %(epoch)s

-- name: advance_checkpoint
-- The first statement of every batch: fence, move the position, renew the lease. No row: the lease was taken over, write nothing.
-- The row stays locked to the end of the transaction, so no takeover fits between the check and the commit.
-- Without a position the batch is a replay's, which leaves the source where it stands.
update etl_checkpoints
set seq = seq + 1, position = coalesce(%(position)s::jsonb, position), records_total = records_total + %(records)s,
    updated_at = case when %(position)s::jsonb is null then updated_at else clock_timestamp() end,
    lease_expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
where source = %(source)s and epoch = %(epoch)s and seq = %(seq)s
returning seq

-- name: renew_lease
-- Keep the lease while we wait for an upstream. No row: it was taken over.
update etl_checkpoints set lease_expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
where source = %(source)s and epoch = %(epoch)s
returning epoch

-- name: release_lease
-- Let the next run start at once. Does nothing when the lease is no longer ours.
update etl_checkpoints set lease_expires_at = null, holder = null, backend_pid = null, backend_start = null
where source = %(source)s and epoch = %(epoch)s

-- name: get_lease
-- Who holds a source, for the message of a run that may not.
select holder, run_id, extract(epoch from lease_expires_at - clock_timestamp())::float8 as seconds_left
from etl_checkpoints where source = %(source)s

-- name: get_position
-- Where a source stands, read without taking the lease.
select position from etl_checkpoints where source = %(source)s
