-- The key of price_history holds the prices, too: the points of an asset lie side by side in it, but all over the table, into which
-- runs write a moment's points of all assets. A year by days is then read from some hundred pages instead of from tens of thousands.
-- This builds the key of every month anew, and nobody reads or writes price_history meanwhile: about a minute for ten million points.
alter table price_history drop constraint price_history_pkey;
alter table price_history add primary key (source, external_id, observed_at) include (price_usd, market_cap_usd, volume_24h_usd);
