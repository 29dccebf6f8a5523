-- schema_drift, source_profiles, field_aliases: what an upstream's records look like, and what was decided about changes.

-- name: upsert_drift
-- Note a change; one that is open already is seen again.
insert into schema_drift as d (source, stream, field, change, suggested_field, cause, confidence, sample, note, relied, required, role, before, after,
                               run_id)
values (%(source)s, %(stream)s, %(field)s, %(change)s, %(suggested)s, %(cause)s, %(confidence)s, %(sample)s, %(note)s, %(relied)s, %(required)s,
        %(role)s, %(before)s, %(after)s, %(run_id)s)
on conflict (source, stream, field, change, coalesce(suggested_field, ''), cause) where accepted_at is null and resolved_at is null do update
set last_seen_at = clock_timestamp(), confidence = excluded.confidence, sample = excluded.sample, note = excluded.note,
    relied = excluded.relied, required = excluded.required, role = excluded.role, before = excluded.before, after = excluded.after,
    run_id = excluded.run_id
returning d.id

-- name: list_drift
-- Changes newest first; those that were accepted or have ended only when asked for.
select id, source, stream, field, change, suggested_field, confidence::float8 as confidence, sample, note, relied, required,
       first_seen_at, last_seen_at, accepted_at, resolved_at, run_id
from schema_drift
where (%(source)s::text is null or source = %(source)s) and (%(all)s::boolean or (accepted_at is null and resolved_at is null))
order by id desc
limit %(limit)s

-- name: lock_drift
-- One change with all that accepting it takes, held until the decision is written.
select id, source, stream, field, change, suggested_field, note, role, relied, before, after, accepted_at, resolved_at
from schema_drift where id = %(id)s for update

-- name: mark_drift_accepted
-- Decide a change.
update schema_drift set accepted_at = clock_timestamp() where id = %(id)s

-- name: mark_drift_open
-- Take a decision back.
update schema_drift set accepted_at = null, resolved_at = null where id = %(id)s

-- name: find_drift_again
-- The open event of the same change as one that was decided, seen since.
select o.id from schema_drift o join schema_drift d on d.id = %(id)s
where o.accepted_at is null and o.resolved_at is null and (o.source, o.stream, o.field, o.change, coalesce(o.suggested_field, ''), o.cause)
      = (d.source, d.stream, d.field, d.change, coalesce(d.suggested_field, ''), d.cause)

-- name: mark_drift_dismissed
-- Close a change that nobody is to decide any more; seen again, it is another one.
update schema_drift set resolved_at = clock_timestamp() where id = %(id)s

-- name: list_open_drift
-- The open changes of a stream with what tells whether they still hold.
select id, field, change, suggested_field, cause, confidence::float8 as confidence, note, before, after
from schema_drift where source = %(source)s and stream = %(stream)s and accepted_at is null and resolved_at is null
order by id

-- name: list_drifting
-- The streams of a source that have open changes.
select distinct stream from schema_drift where source = %(source)s and accepted_at is null and resolved_at is null

-- name: resolve_renamed
-- A field that is known to be renamed is no longer one that is missing and another that was added.
update schema_drift set resolved_at = clock_timestamp()
where source = %(source)s and stream = %(stream)s and accepted_at is null and resolved_at is null
  and ((change = 'missing' and field = %(field)s) or (change = 'added' and field = %(suggested)s))

-- name: resolve_drift
-- Close the changes whose fields a good run found as before. Not one that this run saw too, on another page or in another file; nor one
-- of a run that broke off, for this run may have gone on with it and not seen what that one saw.
update schema_drift d set resolved_at = clock_timestamp()
where d.id = any (%(ids)s::bigint[]) and d.accepted_at is null and d.resolved_at is null and d.run_id <> %(run_id)s
  and (exists (select from etl_runs r where r.id = d.run_id and r.status in ('success', 'partial', 'refused'))
       or exists (select from etl_runs r where r.source = d.source and r.id > d.run_id and r.id < %(run_id)s
                  and r.status in ('success', 'partial')))
returning d.id, d.stream, d.field, d.change

-- name: mark_advice_outdated
-- Tell the next step of open entries of whole payloads that advise to accept changes which are all closed: such a payload is of the past.
update quarantined_records q
set errors = jsonb_set(q.errors, '{0,reason}', to_jsonb(regexp_replace(
    q.errors -> 0 ->> 'reason', '(: check its address, or if that is right|: see `kasparro-etl drift list`, then) `kasparro-etl drift accept [0-9 ]+`$',
    ': that has ended: `kasparro-etl quarantine dismiss ' || q.id || '` closes this entry')))
where q.source = %(source)s and q.external_id is null and q.resolved_at is null and q.raw_position is null
  and q.errors -> 0 ->> 'reason' ~ '`kasparro-etl drift accept [0-9 ]+`$'
  and not exists (
      select from schema_drift d
      where d.id = any (string_to_array(substring(q.errors -> 0 ->> 'reason' from '`kasparro-etl drift accept ([0-9 ]+)`$'), ' ')::bigint[])
        and d.resolved_at is null
  )

-- name: count_run_drift
-- How many open changes a run saw.
select count(*) as drift from schema_drift where run_id = %(run_id)s and accepted_at is null and resolved_at is null

-- name: list_accepted
-- What was accepted for a source and is not to be told again as long as no profile knows better.
select stream, field, change from schema_drift where source = %(source)s and accepted_at is not null

-- name: list_profiles
-- What is known of a source's streams.
select stream, profile from source_profiles where source = %(source)s

-- name: lock_profile
-- A stream's profile, held until it is written back: a decision of a person may come between.
select profile from source_profiles where source = %(source)s and stream = %(stream)s for update

-- name: upsert_profile
-- Keep a stream's profile.
insert into source_profiles as p (source, stream, profile) values (%(source)s, %(stream)s, %(profile)s)
on conflict (source, stream) do update set profile = excluded.profile, updated_at = clock_timestamp()

-- name: list_aliases
-- The renames accepted for a source, those that were taken back first: they count for payloads that were loaded under them.
select stream, upstream_field, field, role, created_at, ended_at
from field_aliases where source = %(source)s order by ended_at nulls last, created_at, upstream_field

-- name: insert_alias
-- Make a rename known to the next run.
insert into field_aliases (source, stream, upstream_field, field, role, drift_id)
values (%(source)s, %(stream)s, %(suggested_field)s, %(field)s, %(role)s, %(id)s)

-- name: end_alias
-- Let the next run read upstream's names as they are.
update field_aliases set ended_at = clock_timestamp() where drift_id = %(id)s and ended_at is null

-- name: end_replaced_alias
-- Make room for another meaning of the same name.
update field_aliases set ended_at = clock_timestamp()
where source = %(source)s and stream = %(stream)s and upstream_field = %(suggested_field)s and ended_at is null

-- name: forget_profile
-- Begin anew with a stream whose records are others altogether.
delete from source_profiles where source = %(source)s and stream = %(stream)s
