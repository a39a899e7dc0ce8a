-- Acquire: one atomic check-and-set. What stands is compared before anything
-- is written; what is read here is also what this connection will be told of
-- when it changes (client-side caching).
--
-- KEYS[1]  the record (layout: idem/layout.go; offsets here are 1-based)
-- KEYS[2]  where the response of a record may be that outlives it; not there
--          while a Cluster moves the slot (see script.run)
-- ARGV[1]  owner token, 16 bytes
-- ARGV[2]  fingerprint, binding and recipe, 36 bytes as in the record
-- ARGV[3]  lease, ms
-- ARGV[4]  life: lease and retention, ms
-- ARGV[5]  retention and remember, 12 bytes as in the record
-- ARGV[6]  flags byte: "\1" makes the key unknown when the lease lapses
-- ARGV[7]  the key's names, encoded
-- ARGV[8]  until when the claim may be granted, ms on this server's clock; or
--          nothing
--
-- Returns {verdict, attempt, x, record, response}: verdict as in idem/state.go;
-- x is this server's time in ms (granted), the remaining lease in ms, the part
-- that differs, the record's recipe, or for how many ms more there is a response.
-- record only for a completed one; response if it is not in the record. Or {-1}:
-- a layout that this build does not know; or {-2, time}: granting it is too late.
local ACQUIRED, YOURS, IN_PROGRESS, COMPLETED, MISMATCH, UNKNOWN = 0, 1, 2, 3, 4, 5
local OTHER_RECIPE, EXPIRED, VERSION, LATE = 9, 10, -1, -2
local IDENTITY, PAYLOAD = 1, 2

local head = redis.call('GETRANGE', KEYS[1], '0', '119')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local attempt, verdict, created = 0, ACQUIRED, now

if head ~= '' then
  local version = string.byte(head, 1)
  if version == 1 then
    head = layout2(head)
  elseif version ~= 2 then
    return {VERSION}
  end
  local state, flags = string.byte(head, 2, 3)
  local till = struct.unpack('>I6', head, 61)
  local lapsed = state == 1 and now >= till
  local holds = flags % 2 == 1
  local owner, same = string.sub(head, 9, 24), string.sub(head, 25, 60) == ARGV[2]
  attempt = struct.unpack('>I4', head, 5)
  if version == 1 and (state == 3 or (state == 1 and holds)) then
    redis.call('PERSIST', KEYS[1]) -- the release before had it end
  end

  if state == 0 or (lapsed and not holds) then
    if lapsed and owner == ARGV[1] and same then
      verdict, created = YOURS, struct.unpack('>I6', head, 67)
    end
  elseif not same then
    if string.sub(head, 57, 60) ~= string.sub(ARGV[2], 33, 36) then
      return {OTHER_RECIPE, attempt, struct.unpack('>I4', head, 57)}
    end
    return {MISMATCH, attempt, string.sub(head, 41, 56) ~= string.sub(ARGV[2], 17, 32) and IDENTITY or PAYLOAD}
  elseif state == 2 then
    -- Both decide: the time that is in the record, since Redis may be late with
    -- ending a key and a response may be kept in the record; and that the
    -- response is there, since somebody may have deleted it. Without, the key
    -- counts as expired: it is never executed again for that.
    if now >= till then
      return {EXPIRED, attempt}
    elseif flags < 2 then
      return {COMPLETED, attempt, till - now, redis.call('GET', KEYS[1])}
    elseif not KEYS[2] then
      return redis.error_reply('TRYAGAIN the response may be elsewhere')
    end
    local response = redis.call('GET', KEYS[2])
    if not response then
      return {EXPIRED, attempt}
    end
    return {COMPLETED, attempt, till - now, string.sub(head, 1, 96), response}
  elseif state == 3 or lapsed then
    return {UNKNOWN, attempt}
  elseif owner == ARGV[1] then
    verdict, created = YOURS, struct.unpack('>I6', head, 67)
  else
    return {IN_PROGRESS, attempt, till - now}
  end
end

if ARGV[8] ~= '' and now >= tonumber(ARGV[8]) then
  return {LATE, now}
end
if verdict == ACQUIRED then
  attempt = attempt + 1
end
local held = ARGV[6] == '\1'
local record = '\2\1' .. ARGV[6] .. '\0' .. struct.pack('>I4', attempt) .. ARGV[1] .. ARGV[2] ..
  struct.pack('>I6I6I6I6', now + ARGV[3], created, now, held and 0 or now + ARGV[4]) .. ARGV[5] .. ARGV[7]
if held then
  redis.call('SET', KEYS[1], record)
else
  -- A number that is only passed on stays a string: Redis would print it anew,
  -- which costs as much as a look-up.
  redis.call('SET', KEYS[1], record, 'PX', ARGV[4])
end
return {verdict, attempt, now}
