-- Runs are compared with their like, by trigger: however many runs of another trigger lie in between, none of them is read.
create index etl_runs_by_source_and_trigger on etl_runs (source, trigger, id desc);
