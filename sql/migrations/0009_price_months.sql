-- price_history by month of observed_at: a query over some time touches only its months, and old months are dropped, not deleted.
-- Months from 2009 to 2039 get a partition each when their first point arrives; what no market has lies in two partitions at the ends,
-- so that absurd dates make none. The default partition is for writers that did not ask for a month's partition; it is empty otherwise.

alter table price_history rename to price_history_before;
alter table price_history_before rename constraint price_history_pkey to price_history_before_pkey;

create table price_history (
    source         text collate "C" not null,
    external_id    text collate "C" not null,
    observed_at    timestamptz not null check (observed_at > '-infinity' and observed_at < 'infinity'),
    price_usd      numeric not null check (price_usd >= 0 and price_usd < 'Infinity'),
    market_cap_usd numeric check (market_cap_usd >= 0 and market_cap_usd < 'Infinity'),
    volume_24h_usd numeric check (volume_24h_usd >= 0 and volume_24h_usd < 'Infinity'),
    run_id         bigint not null,
    backfilled_at  timestamptz,                         -- when a backfill was told this value; null: a run observed it
    primary key (source, external_id, observed_at)
) partition by range (observed_at);
create table price_history_early partition of price_history for values from (minvalue) to ('2009-01-01 00:00+00');
create table price_history_late partition of price_history for values from ('2040-01-01 00:00+00') to (maxvalue);
create table price_history_rest partition of price_history default;

-- Make the partitions of some months where they are missing, and move what the default partition holds of them.
-- A loader calls it before it writes: it also keeps drop_price_history out until the end of the transaction.
-- Where the default partition is in use or large, the month's points go there: settle_price_history moves them later.
create function ensure_price_history(months date[]) returns integer language plpgsql security definer as $$
declare
    month date;
    made  integer := 0;
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('kasparro.price_history.drop', 0));
    for month in select distinct date_trunc('month', m)::date from unnest(months) m where m >= '2009-01-01' and m < '2040-01-01' order by 1 loop
        if to_regclass('price_history_' || to_char(month, 'YYYY_MM')) is null and pg_relation_size('price_history_rest') < 8388608 then
            made := made + make_price_month(month, '1s')::integer;
        end if;
    end loop;
    return made;
end $$;

-- Make one month's partition, unless the default partition stays in use for `patience`. One process makes it, others wait and find it.
create function make_price_month(month date, patience text) returns boolean language plpgsql security definer as $$
declare
    name  text := 'price_history_' || to_char(month, 'YYYY_MM');
    low   timestamptz := month::timestamp at time zone 'UTC';
    high  timestamptz := (month + interval '1 month') at time zone 'UTC';
    bound text := current_setting('lock_timeout');
begin
    perform set_config('lock_timeout', patience, true);
    perform pg_advisory_xact_lock(hashtextextended('kasparro.price_history.make', 0));
    -- quirk: after a wait, to_regclass may still answer from a cache that does not know the table that was waited for
    if not exists (select from pg_inherits i join pg_class c on c.oid = i.inhrelid
                   where i.inhparent = 'price_history'::regclass and c.relname = name) then
        lock table price_history_rest in access exclusive mode;
        execute format('create table %I (like price_history including all)', name);
        execute format('with moved as (delete from price_history_rest where observed_at >= %L and observed_at < %L returning *)
                        insert into %I select * from moved', low, high, name);
        execute format('alter table price_history attach partition %I for values from (%L) to (%L)', name, low, high);
    end if;
    perform set_config('lock_timeout', bound, true);
    return true;
exception when lock_not_available then
    perform set_config('lock_timeout', bound, true);
    return false;
end $$;

-- Move everything that the default partition holds into its months. Returns how many partitions it made.
create function settle_price_history() returns integer language plpgsql as $$
declare
    month date;
    made  integer := 0;
begin
    for month in select distinct date_trunc('month', observed_at at time zone 'UTC')::date from price_history_rest order by 1 loop
        if to_regclass('price_history_' || to_char(month, 'YYYY_MM')) is null then
            made := made + make_price_month(month, '60s')::integer;
        end if;
    end loop;
    return made;
end $$;

-- Drop every month that ended by `before`; of the time before 2009, all or nothing. Waits for the batches under way. Returns the names.
create function drop_price_history(before timestamptz) returns setof text language plpgsql as $$
declare
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('kasparro.price_history.drop', 0));
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'price_history'::regclass and c.relname ~ '^price_history_\d{4}_\d\d$'
          and (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' <= before
        order by 1
    loop
        execute format('drop table %I', name);
        return next name;
    end loop;
    if before >= '2009-01-01 00:00+00' and exists (select from price_history_early) then
        truncate price_history_early;
        return next 'price_history_early';
    end if;
end $$;

-- The two that loaders call act with the rights of the tables' owner, in the tables' schema and in no other.
do $$
begin
    execute format('alter function ensure_price_history(date[]) set search_path = %I, pg_temp', current_schema());
    execute format('alter function make_price_month(date, text) set search_path = %I, pg_temp', current_schema());
end $$;

do $$
begin
    perform make_price_month(month, '60s') from (
        select distinct date_trunc('month', observed_at at time zone 'UTC')::date as month from price_history_before
        where observed_at >= '2009-01-01 00:00+00' and observed_at < '2040-01-01 00:00+00'
    ) months;
end $$;
insert into price_history (source, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, run_id)
select source, external_id, observed_at, price_usd, market_cap_usd, volume_24h_usd, run_id from price_history_before;
drop table price_history_before;
