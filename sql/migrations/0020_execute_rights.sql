-- The functions that act with the rights of the tables' owner make tables and indexes: who may only read must not have them made.
-- Whoever may insert may call what loaders call, as before; the month itself is made by nobody but the owner and the function of loaders.
revoke all on function make_read_index(), ensure_price_history(date[]), make_price_month(date, text) from public;

do $$
declare
    allowed record;
begin
    for allowed in
        select f.signature, r.rolname as role
        from (values ('make_read_index()', 'unified_data'), ('ensure_price_history(date[])', 'price_history')) f (signature, written)
        join pg_class c on c.oid = f.written::regclass
        join pg_roles r on has_any_column_privilege(r.oid, c.oid, 'insert') and not pg_has_role(r.oid, c.relowner, 'usage')
    loop
        execute format('grant execute on function %s to %I', allowed.signature, allowed.role);
    end loop;
end $$;
