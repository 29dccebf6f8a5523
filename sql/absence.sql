-- asset_absences: assets that complete snapshots no longer bring. Nothing is ever deleted from unified_data.

-- name: forget_absences
-- An asset that is back is not missing.
delete from asset_absences where source = %(source)s and external_id = any (%(ids)s)

-- name: count_absences
-- Note each active asset that the snapshot just loaded did not bring.
insert into asset_absences as a (source, external_id)
select u.source, u.external_id
from unified_data u
where u.source = %(source)s and u.status = 'active' and not exists (select from unnest(%(ids)s::text[]) i(id) where i.id = u.external_id)
on conflict (source, external_id) do update set snapshots = a.snapshots + 1

-- name: mark_inactive
-- Three complete snapshots and a day without it: the asset is inactive until it comes back.
update unified_data u
set status = 'inactive', updated_at = clock_timestamp()
from asset_absences a
where a.source = %(source)s and a.snapshots >= 3 and a.first_missing_at < clock_timestamp() - interval '1 day'
  and u.source = a.source and u.external_id = a.external_id and u.status = 'active'
