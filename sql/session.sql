-- What a connection asks of its server about itself.

-- name: get_backend
-- The server process behind this connection.
select pg_backend_pid() as pid

-- name: bound_batch
-- Bounds for one transaction: a lock, a statement or a silence of ours that takes longer ends it.
select set_config('lock_timeout', '10s', true), set_config('statement_timeout', '60s', true),
       set_config('idle_in_transaction_session_timeout', '30s', true)

-- name: bound_load
-- The same for a batch of a run, whose commit does not wait for the disk: what a crash of the server may take is the last of a run's
-- batches, its records with its checkpoint, and they are loaded again. The commit that ends the run waits for all before it.
-- A lock is waited for in short steps, one batch again and again, so that a stop and whoever needs the lease wait no longer than a step.
select set_config('lock_timeout', '4s', true), set_config('statement_timeout', '60s', true),
       set_config('idle_in_transaction_session_timeout', '30s', true), set_config('synchronous_commit', 'off', true)
