-- The key of unified_data is led by the id, and look-ups of a batch name the source in a way that no other index fits: of a source that the
-- statistics do not know yet, all indexes led by the source looked equally good, and one over names was read from end to end for every record.
-- Nobody reads or writes unified_data while the new key is built, one or two seconds a million records.
alter table unified_data
    drop constraint unified_data_source_external_id_key,
    add constraint unified_data_external_id_source_key unique (external_id, source);
