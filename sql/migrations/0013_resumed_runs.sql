-- Which run went on with another one: runs are looked at by it, and there are few of them.
create index etl_runs_by_resumed on etl_runs (resumed_from) where resumed_from is not null;
