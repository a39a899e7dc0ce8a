-- Registry: enters something beside the records. It runs when Redis is full, too:
-- an entry is small, and without it records would be read wrongly.
--
-- KEYS[1]  the registry: a hash, each value 6 bytes of when the entry ends, ms
--          (0 for never), then its text
-- ARGV[1]  the entry's name
-- ARGV[2]  its text
-- ARGV[3]  for how long it is kept, ms; 0 for ever
--
-- An entry never ends sooner than was once said. Time is the server's.
local ends = 0
if ARGV[3] ~= '0' then
  local t = redis.call('TIME')
  ends = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
end
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local said = struct.unpack('>I6', before)
  ends = (said == 0 or ends == 0) and 0 or math.max(said, ends)
end
redis.call('HSET', KEYS[1], ARGV[1], struct.pack('>I6', ends) .. ARGV[2])
return 1
