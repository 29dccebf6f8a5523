-- The payloads that a run was the first to keep: those of a refused run belong to no batch.
create index raw_payloads_by_run on raw_payloads (run_id, id);
create index pruned_payloads_by_run on pruned_payloads (run_id, id);
