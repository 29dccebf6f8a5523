-- Batches: the trace of every committed transaction.

-- name: insert_batch
-- The primary key (source, seq) is a second guard against applying one batch twice.
insert into etl_batches (source, seq, run_id, epoch, raw_id, first_position, next_position, inserted, updated, unchanged, quarantined)
values (%(source)s, %(seq)s, %(run_id)s, %(epoch)s, %(raw_id)s, %(first)s, %(next)s, %(inserted)s, %(updated)s, %(unchanged)s, %(quarantined)s)
