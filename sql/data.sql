-- unified_data as the API reads it. Blocks named part_… are fragments: web/queries.py puts them together, and a test plans the results.

-- name: list_data_versions
-- The version of each source's data, which every commit that changes some of it advances.
select source, source_type, version from data_versions order by source

-- name: list_data_counts
-- How many records there are of each source, kind and status; with a category, only of that one.
select source, kind, status, sum(records)::bigint as records
from data_counts
where %(category)s::text is null or category = %(category)s
group by source, kind, status
having sum(records) > 0
order by source, kind, status

-- name: bound_search
-- Bounds of a search: milliseconds after which it is given up; no table is read from end to end, nothing is compiled.
select set_config('statement_timeout', %(patience)s, true), set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)

-- name: bound_export
-- Bounds for an export, which may take long, but not for ever.
select set_config('statement_timeout', '900000', true)

-- name: part_where_source
-- Only sources that have such records at all; the list is never empty.
u.source = any (%(sources)s)

-- name: part_where_kind
-- Assets or articles.
u.kind = %(kind)s

-- name: part_where_category
-- One category, as it is spelt.
u.category = %(category)s

-- name: part_where_status
-- Active or not, written so that the partial index of the inactive ones fits.
u.status = %(status)s

-- name: part_where_symbol
-- One symbol, its Latin letters in any case: as the column's collation has it, whatever the server's is.
upper(u.symbol) = upper(%(symbol)s collate "C")

-- name: part_where_q
-- Words in symbol and name, which stand on lines of their own.
(E'\n' || coalesce(u.symbol, '') || E'\n' || u.name || E'\n') ilike %(q_like)s

-- name: part_where_updated_since
-- Changed at this moment or later.
u.updated_at >= %(updated_since)s

-- name: part_where_updated_before
-- Changed before this moment.
u.updated_at < %(updated_before)s

-- name: part_where_min_price
-- At this price or above.
u.price_usd >= %(min_price)s::numeric

-- name: part_where_max_price
-- At this price or below.
u.price_usd <= %(max_price)s::numeric

-- name: part_where_min_market_cap
-- With this market capitalisation or more.
u.market_cap_usd >= %(min_market_cap)s::numeric

-- name: part_key_id
-- The key of `sort=id`.
u.id

-- name: part_key_updated_at
-- The key of `sort=updated_at`.
u.updated_at

-- name: part_key_price_usd
-- The key of `sort=price_usd`.
u.price_usd

-- name: part_key_market_cap_usd
-- The key of `sort=market_cap_usd`.
u.market_cap_usd

-- name: part_key_rank
-- The key of `sort=rank`.
u.rank

-- name: part_key_name
-- The key of `sort=name`, by code point: the same order on every server.
u.name collate "C"

-- name: part_branch_up
-- The records of one source in the order of its index; the planner merges several as each is ordered by itself.
(select u.id, {key} as key{carried} from unified_data u where u.source = {source} and {where} order by {key}, u.id limit {reach})

-- name: part_branch_down
-- The same, the index read backwards.
(select u.id, {key} as key{carried} from unified_data u where u.source = {source} and {where} order by {key} desc, u.id desc limit {reach})

-- name: part_carried_doc
-- What is read along with id and key: the whole record as JSON.
, u.doc as body

-- name: part_carried_nothing
-- Nothing: what an offset passes over is read from the index alone.

-- name: part_hits
-- What the filters leave, or so many of it, found first; the offset keeps the planner from another order. An index alone may tell the key.
hits as (select {columns} from unified_data u where {filters} limit {most} offset 0),

-- name: part_branch_hits
-- The hits that belong to the page or behind it.
select u.id, {key} as key from hits u where {where}

-- name: part_total_hits
-- How many were found.
(select count(*) from hits)

-- name: part_total_unknown
-- Nothing was counted.
null::bigint

-- name: part_merged
-- What has a key, or what has none, in order.
(select f.* from ({branches}) f order by {order} limit {reach})

-- name: part_order_up
-- Upwards.
f.key, f.id

-- name: part_order_down
-- Downwards.
f.key desc, f.id desc

-- name: part_order_up_id
-- Upwards where the id is the key.
f.id

-- name: part_order_down_id
-- Downwards where the id is the key.
f.id desc

-- name: part_then
-- One after the other.
union all

-- name: part_and
-- Both.
and

-- name: part_where_any
-- No condition.
true

-- name: part_known_price_usd
-- Has the key of `sort=price_usd`.
u.price_usd is not null

-- name: part_unknown_price_usd
-- Has no key of `sort=price_usd`: last in both directions.
u.price_usd is null

-- name: part_known_market_cap_usd
-- Has the key of `sort=market_cap_usd`.
u.market_cap_usd is not null

-- name: part_unknown_market_cap_usd
-- Has no key of `sort=market_cap_usd`: last in both directions.
u.market_cap_usd is null

-- name: part_known_rank
-- Has the key of `sort=rank`.
u.rank is not null

-- name: part_unknown_rank
-- Has no key of `sort=rank`: last in both directions.
u.rank is null

-- name: part_up_from_id
-- Behind a place, upwards.
u.id > %(after_id)s

-- name: part_down_from_id
-- Behind a place, downwards.
u.id < %(after_id)s

-- name: part_up_from_updated_at
-- Behind a place, upwards.
(u.updated_at, u.id) > (%(after_key)s::timestamptz, %(after_id)s)

-- name: part_down_from_updated_at
-- Behind a place, downwards.
(u.updated_at, u.id) < (%(after_key)s::timestamptz, %(after_id)s)

-- name: part_up_from_price_usd
-- Behind a place, upwards.
(u.price_usd, u.id) > (%(after_key)s::numeric, %(after_id)s)

-- name: part_down_from_price_usd
-- Behind a place, downwards.
(u.price_usd, u.id) < (%(after_key)s::numeric, %(after_id)s)

-- name: part_up_from_market_cap_usd
-- Behind a place, upwards.
(u.market_cap_usd, u.id) > (%(after_key)s::numeric, %(after_id)s)

-- name: part_down_from_market_cap_usd
-- Behind a place, downwards.
(u.market_cap_usd, u.id) < (%(after_key)s::numeric, %(after_id)s)

-- name: part_up_from_rank
-- Behind a place, upwards.
(u.rank, u.id) > (%(after_key)s::integer, %(after_id)s)

-- name: part_down_from_rank
-- Behind a place, downwards.
(u.rank, u.id) < (%(after_key)s::integer, %(after_id)s)

-- name: part_up_from_name
-- Behind a place, upwards.
(u.name collate "C", u.id) > (%(after_key)s::text, %(after_id)s)

-- name: part_down_from_name
-- Behind a place, downwards.
(u.name collate "C", u.id) < (%(after_key)s::text, %(after_id)s)

-- name: part_page_along
-- A page of whole records, and one record more where others follow. Limit and offset stand in the text, here and below:
-- a prepared statement with a limit it does not know is planned anew each time.
select f.body, f.id, {told} as key, null::bigint as total from ({ordered}) f limit {more}

-- name: part_page_found
-- The same where records are passed over, found first or cut to some columns: they are looked up last. One row at the least, for the total.
with {hits} found as materialized (
    select row_number() over () as place, m.id, m.key
    from (select o.id, o.key from ({ordered}) o limit {more} offset {offset}) m
)
select d.body, f.id, {told} as key, {total} as total
from (select) one
left join (found f join unified_data u on u.id = f.id cross join lateral (select {body} as body) d) on true
order by f.place

-- name: part_told_key
-- The key of a record as its type writes it.
f.key

-- name: part_told_time
-- A time as ISO 8601, whatever the session's style.
to_json(f.key) #>> '{{}}'

-- name: part_doc
-- A whole record as JSON, as it is kept.
u.doc

-- name: part_members
-- Some columns of a record as JSON.
(select row_to_json(c)::text from (select {columns}) c)

-- name: part_estimate
-- What the planner thinks how many records the filters leave.
explain (format json) select from unified_data u where {filters}

-- name: part_record
-- One record as JSON.
select u.doc from unified_data u where u.id = %(id)s

-- name: part_export_csv
-- Every record the filters leave, as CSV.
copy (select {columns} from unified_data u where {filters}) to stdout (format csv, header)

-- name: part_export_ndjson
-- Every record the filters leave, a JSON object a line. Delimiter and quote are two characters that JSON never holds bare.
copy (select {body} from unified_data u where {filters}) to stdout (format csv, delimiter E'\x01', quote E'\x02')

-- name: part_column
-- A column as it is.
u.{name}

-- name: part_column_time
-- A time in UTC, whatever the session's time zone, as `doc` tells it.
btrim(to_json(u.{name} at time zone 'UTC')::text, '"') || 'Z' as {name}

-- name: part_cell_text
-- A text that no spreadsheet takes for a formula: = + - @, their full-width forms, tab and line ends get an apostrophe in front.
case when ascii(u.{name}) in (9, 10, 13, 43, 45, 61, 64, 65291, 65293, 65309, 65312) then '''' || u.{name} else u.{name} end as {name}

-- name: part_cell_list
-- A list as JSON.
to_json(u.{name})::text as {name}
