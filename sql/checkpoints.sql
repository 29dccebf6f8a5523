-- Checkpoints as people look at them, and start them anew.

-- name: list_checkpoints
-- Where every source stands, and who holds it.
select source, position, records_total, run_id, updated_at,
       case when lease_expires_at > clock_timestamp() then holder end as held_by
from etl_checkpoints
where %(source)s::text is null or source = %(source)s
order by source

-- name: forget_position
-- Let a source start anew, if nobody holds it. A holder whose lease ran out writes nothing more.
update etl_checkpoints
set position = '{}', epoch = epoch + 1, updated_at = clock_timestamp()
where source = %(source)s
  and (lease_expires_at is null
       or lease_expires_at < clock_timestamp()
       or (backend_pid is not null
           and not exists (select from pg_stat_activity o where o.pid = backend_pid and o.backend_start is not distinct from etl_checkpoints.backend_start)))
returning source
