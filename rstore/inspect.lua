-- Inspect: a record and the server's time, for an operator.
-- KEYS[1]  the record
-- KEYS[2]  where its response may be
-- Returns {seconds, microseconds, record or false, response or false}.
local t = redis.call('TIME')
local record, response = redis.call('GET', KEYS[1]), false
if record and string.byte(record, 1) == 2 and #record > 2 and string.byte(record, 3) >= 2 then
  if not KEYS[2] then
    return redis.error_reply('TRYAGAIN the response may be elsewhere')
  end
  response = redis.call('GET', KEYS[2])
end
return {tonumber(t[1]), tonumber(t[2]), record, response}
