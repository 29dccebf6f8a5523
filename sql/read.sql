-- What the API says to a transaction when it could not say it to the session.

-- name: bound_read
-- Bounds for one transaction behind a pooler that takes no options.
select set_config('statement_timeout', %(statement)s, true), set_config('lock_timeout', %(lock)s, true),
       set_config('idle_in_transaction_session_timeout', '5s', true), set_config('timezone', 'UTC', true)

-- name: end_bounded
-- The end of a message that bounds its statement. A timeout that strikes just as a statement ends is told to the session's next one, whatever
-- that is: here it is this, so the message is told that it took too long, and what is asked later is not.
select
