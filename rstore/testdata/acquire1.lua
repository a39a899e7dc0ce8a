-- Acquire: one atomic check-and-set. What stands is compared before anything
-- is written; the first read is also what registers this connection to be told
-- when the key changes (client-side caching).
--
-- KEYS[1]  the record (layout: idem/record.go; offsets here are 1-based)
-- ARGV[1]  owner token, 16 bytes
-- ARGV[2]  fingerprint, 32 bytes
-- ARGV[3]  binding, 32 bytes
-- ARGV[4]  lease, ms
-- ARGV[5]  life: lease and retention, ms
-- ARGV[6]  flags byte: "\1" makes the key unknown when the lease lapses
-- ARGV[7]  the key's names, encoded
--
-- Returns {verdict, attempt, x, record}: verdict as in idem/state.go (or -1: a
-- layout that this build does not know); x is the remaining lease in ms, the
-- part that differs, or the record's remaining life in ms; record only for a
-- completed one. Time is the server's. Numbers that are only passed on stay
-- strings: Redis would print them anew, which costs as much as a look-up.
local ACQUIRED, YOURS, IN_PROGRESS, COMPLETED, MISMATCH, UNKNOWN, VERSION = 0, 1, 2, 3, 4, 5, -1
local IDENTITY, PAYLOAD = 1, 2

local head = redis.call('GETRANGE', KEYS[1], '0', '119')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local attempt, verdict, created = 0, ACQUIRED, now

if head ~= '' then
  if string.byte(head, 1) ~= 1 then
    return {VERSION}
  end
  local state = string.byte(head, 2)
  attempt = struct.unpack('>I4', head, 5)
  local lapsed = state == 1 and now >= struct.unpack('>I8', head, 9)
  local holds = string.byte(head, 3) % 2 == 1
  local owner = string.sub(head, 17, 32)

  if state == 0 or (lapsed and not holds) then
    if lapsed and owner == ARGV[1]
        and string.sub(head, 33, 64) == ARGV[2] and string.sub(head, 65, 96) == ARGV[3] then
      verdict, created = YOURS, struct.unpack('>I8', head, 97)
    end
  elseif string.sub(head, 65, 96) ~= ARGV[3] then
    return {MISMATCH, attempt, IDENTITY}
  elseif string.sub(head, 33, 64) ~= ARGV[2] then
    return {MISMATCH, attempt, PAYLOAD}
  elseif state == 2 then
    return {COMPLETED, attempt, redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1])}
  elseif state == 3 or lapsed then
    return {UNKNOWN, attempt}
  elseif owner == ARGV[1] then
    verdict, created = YOURS, struct.unpack('>I8', head, 97)
  else
    return {IN_PROGRESS, attempt, struct.unpack('>I8', head, 9) - now}
  end
end

if verdict == ACQUIRED then
  attempt = attempt + 1
end
local lease = now + ARGV[4]
redis.call('SET', KEYS[1],
  '\1\1' .. ARGV[6] .. '\0' .. struct.pack('>I4I8', attempt, lease) .. ARGV[1] .. ARGV[2] .. ARGV[3] ..
  struct.pack('>I8I8I8', created, now, now + ARGV[5]) .. ARGV[7],
  'PX', ARGV[5])
return {verdict, attempt}
