-- Inspect: a record and the server's time, for an operator.
-- KEYS[1]  the record
-- Returns {seconds, microseconds, record or false}.
local t = redis.call('TIME')
return {tonumber(t[1]), tonumber(t[2]), redis.call('GET', KEYS[1])}
