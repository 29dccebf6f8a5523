-- The oldest quarantined record of each source that waits for a person, which the dashboard shows: the first entry of this index.
create index quarantined_records_oldest on quarantined_records (source, id) where resolved_at is null;
drop index quarantined_records_open;
