-- Every record is kept as the JSON text that the API answers with, too: a page is then read, not made. Whoever writes a record, a person
-- at psql too, writes this with it, so it cannot be out of date. Times are told in UTC, whatever the session's time zone.
-- This writes the whole table and its indexes anew, and nobody reads or writes it meanwhile: about twenty seconds for a million records.

-- Immutable as far as it goes: to_json is not for times, which follow the session's time zone, but what it is given here has none.
create function write_record(
    id bigint, source text, source_type text, external_id text, kind text, asset_id text, symbol text, name text, category text,
    price_usd numeric, market_cap_usd numeric, volume_24h_usd numeric, percent_change_24h numeric, rank integer, url text, tags
    text[], source_updated_at timestamptz, first_seen_at timestamptz, updated_at timestamptz, status text
) returns text language plpgsql immutable parallel safe as $$
begin
    return '{"id":' || id::text
        || ',"source":' || to_json(source)::text
        || ',"source_type":' || to_json(source_type)::text
        || ',"external_id":' || to_json(external_id)::text
        || ',"kind":' || to_json(kind)::text
        || ',"asset_id":' || coalesce(to_json(asset_id)::text, 'null')
        || ',"symbol":' || coalesce(to_json(symbol)::text, 'null')
        || ',"name":' || to_json(name)::text
        || ',"category":' || to_json(category)::text
        || ',"price_usd":' || coalesce(price_usd::text, 'null')
        || ',"market_cap_usd":' || coalesce(market_cap_usd::text, 'null')
        || ',"volume_24h_usd":' || coalesce(volume_24h_usd::text, 'null')
        || ',"percent_change_24h":' || coalesce(percent_change_24h::text, 'null')
        || ',"rank":' || coalesce(rank::text, 'null')
        || ',"url":' || coalesce(to_json(url)::text, 'null')
        || ',"tags":' || coalesce(to_json(tags)::text, 'null')
        || ',"source_updated_at":' || coalesce(rtrim(to_json(source_updated_at at time zone 'UTC')::text, '"') || 'Z"', 'null')
        || ',"first_seen_at":' || rtrim(to_json(first_seen_at at time zone 'UTC')::text, '"') || 'Z"'
        || ',"updated_at":' || rtrim(to_json(updated_at at time zone 'UTC')::text, '"') || 'Z"'
        || ',"status":' || to_json(status)::text
        || '}';
end $$;

-- Whoever may insert makes it, too, also where functions are closed to public.
do $$
declare
    loader text;
begin
    for loader in
        select r.rolname from pg_class c
        join pg_roles r on has_any_column_privilege(r.oid, c.oid, 'insert') and not pg_has_role(r.oid, c.relowner, 'usage')
        where c.oid = 'unified_data'::regclass
    loop
        execute format('grant execute on function write_record to %I', loader);
    end loop;
end $$;

alter table unified_data
    add column doc text generated always as (write_record(
    id, source, source_type, external_id, kind, asset_id, symbol, name, category, price_usd, market_cap_usd, volume_24h_usd,
    percent_change_24h, rank, url, tags, source_updated_at, first_seen_at, updated_at, status
    )) stored;
alter table unified_data alter column doc set statistics 0;     -- nobody searches it
