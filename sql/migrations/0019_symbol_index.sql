-- A symbol, in any case, has an index of its own: in the index over words its letters led to every name that holds them.
-- Nobody writes unified_data while it is built, half a second a million records; readers do not wait.
do $$
begin
    if exists (select from unified_data) then
        create index unified_data_by_symbol on unified_data (upper(symbol));
        analyze unified_data;           -- what its symbols are like is known only now
    end if;
end $$;

-- As before, with this index among the others, and statistics once all are made.
create or replace function make_read_index() returns text language plpgsql security definer set lock_timeout = '10s' as $$
declare
    missing record;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('kasparro.unified_data.indexes', 0)) or not exists (select from unified_data) then
        return null;
    end if;
    for missing in
        select * from (values
            ('unified_data_by_id',         '(source, id)'),
            ('unified_data_by_updated_at', '(source, updated_at, id)'),
            ('unified_data_by_price',      '(source, price_usd, id)'),
            ('unified_data_by_market_cap', '(source, market_cap_usd, id)'),
            ('unified_data_by_rank',       '(source, rank, id)'),
            ('unified_data_by_name',       '(source, (name collate "C"), id)'),
            ('unified_data_by_category',   '(category)'),
            ('unified_data_inactive',      '(source) where status = ''inactive'''),
            ('unified_data_by_symbol',     '(upper(symbol))'),
            ('unified_data_by_words',      'using gin ((E''\n'' || coalesce(symbol, '''') || E''\n'' || name || E''\n'') gin_trgm_ops)')
        ) i (name, definition)
        where to_regclass(i.name) is null
        limit 1
    loop
        execute format('create index %I on unified_data %s', missing.name, missing.definition);
        if missing.name = 'unified_data_by_words' then
            analyze unified_data;       -- what its words and symbols are like is known only now
        end if;
        return missing.name;
    end loop;
    return null;
end $$;

-- It acts with the rights of the tables' owner, in the tables' schema and that of the extension, and in no other.
do $$
begin
    execute format('alter function make_read_index() set search_path = %I, %I, pg_temp', current_schema(),
                   (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_trgm'));
end $$;
