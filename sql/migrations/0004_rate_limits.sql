-- The limit a source's calls were last counted against, so that a reader needs no settings to say how much of it is used.

alter table etl_rate_limits
    add column calls_per_period integer,
    add column period_seconds   double precision;
