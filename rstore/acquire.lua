-- Acquire: one atomic check-and-set. A key that is new is written at once, in the
-- words of the client; one that is there is compared before anything is written,
-- and what is read of it is also what this connection will be told of when it
-- changes (client-side caching). A new key is not read, so that Redis need not
-- remember for whom.
--
-- KEYS[1]  the record (layout: idem/layout.go; offsets here are 1-based)
-- KEYS[2]  where the response of a record may be that outlives it; not there
--          while a Cluster moves the slot (see script.run)
-- ARGV[1]  the record that stands if there was none: the first attempt, with the
--          times that it has if ARGV[3] is right, but for a lease that is 10 ms longer
-- ARGV[2]  life: lease and retention, ms. Nothing for a record without an end: the
--          key is unknown when the lease lapses
-- ARGV[3]  what this server's clock showed when the claim was made, ms, as the
--          client knows it: never too much while the clock is not set back. 0: it
--          does not know
-- ARGV[4]  for how long after that the claim may be granted, ms
-- ARGV[5]  if it is there, a response comes whatever its size
--
-- Returns this server's time in ms: the key was new and is granted. Otherwise
-- {verdict, attempt, x, record, response}: verdict as in idem/state.go;
-- x is this server's time in ms (granted), the remaining lease in ms, the part
-- that differs, the record's recipe, or for how many ms more there is a response.
-- record only for a completed one; response if it is not in the record: 1 for one that
-- stays where it is. For a payload that differs, 1 and the record's hints follow, or 0
-- and nothing to go by. Or {-1}: a layout that this build does not know; or {-2, time}:
-- granting it is too late.
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local passed = now - ARGV[3]

-- The client's times stand if they are right to within 10 ms: by so much they may
-- be too soon, and the lease's end is not.
if passed >= 0 and passed < 10 and passed < tonumber(ARGV[4]) then
  local new
  if ARGV[2] == '' then
    new = redis.pcall('SET', KEYS[1], ARGV[1], 'NX')
  else
    -- A number that is only passed on stays a string: Redis would print it anew,
    -- which costs as much as a look-up.
    new = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
  end
  if new and new.ok then
    return now
  end
  -- It is there. Or Redis takes no writes: what is there can be read all the same.
end

local ACQUIRED, YOURS, IN_PROGRESS, COMPLETED, MISMATCH, UNKNOWN = 0, 1, 2, 3, 4, 5
local OTHER_RECIPE, EXPIRED, VERSION, LATE = 9, 10, -1, -2
local IDENTITY, PAYLOAD = 1, 2

now = math.floor(now)
-- One read for what decides and for a response that the record has in itself, which
-- is a small one: larger ones are at KEYS[2], or take a second read.
local MOST = 4096
local whole = redis.call('GETRANGE', KEYS[1], '0', '4095')
local head = whole
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
  local owner, same = string.sub(head, 9, 24), string.sub(head, 25, 60) == string.sub(ARGV[1], 25, 60)
  attempt = struct.unpack('>I4', head, 5)
  if version == 1 and (state == 3 or (state == 1 and holds)) then
    redis.call('PERSIST', KEYS[1]) -- the release before had it end
  end

  if state == 0 or (lapsed and not holds) then
    if lapsed and owner == string.sub(ARGV[1], 9, 24) and same then
      verdict, created = YOURS, struct.unpack('>I6', head, 67)
    end
  elseif not same then
    if string.sub(head, 57, 60) ~= string.sub(ARGV[1], 57, 60) then
      return {OTHER_RECIPE, attempt, struct.unpack('>I4', head, 57)}
    end
    if string.sub(head, 41, 56) ~= string.sub(ARGV[1], 41, 56) then
      return {MISMATCH, attempt, IDENTITY}
    end
    -- Whether it has hints, and them: see idem.Hints.
    return {MISMATCH, attempt, PAYLOAD, string.byte(head, 4) % 2, string.sub(head, 21, 24)}
  elseif state == 2 then
    -- Both decide: the time that is in the record, since Redis may be late with
    -- ending a key and a response may be kept in the record; and that the
    -- response is there, since somebody may have deleted it. Without, the key
    -- counts as expired: it is never executed again for that.
    if now >= till then
      return {EXPIRED, attempt}
    elseif flags < 2 then
      return {COMPLETED, attempt, till - now, #whole < MOST and whole or redis.call('GET', KEYS[1])}
    elseif not KEYS[2] then
      return redis.error_reply('TRYAGAIN the response may be elsewhere')
    end
    -- A large one stays where it is, since Lua would copy it twice: the client gets it
    -- by itself. A user who may not ask for its length takes the longer way.
    local length = not ARGV[5] and redis.pcall('STRLEN', KEYS[2])
    if type(length) == 'number' and length >= 2048 then
      return {COMPLETED, attempt, till - now, string.sub(head, 1, 96), 1}
    end
    local response = redis.call('GET', KEYS[2])
    if not response then
      return {EXPIRED, attempt}
    end
    return {COMPLETED, attempt, till - now, string.sub(head, 1, 96), response}
  elseif state == 3 or lapsed then
    return {UNKNOWN, attempt}
  elseif owner == string.sub(ARGV[1], 9, 24) then
    verdict, created = YOURS, struct.unpack('>I6', head, 67)
  else
    return {IN_PROGRESS, attempt, till - now}
  end
end

if passed >= tonumber(ARGV[4]) then
  return {LATE, now}
end
if verdict == ACQUIRED then
  attempt = attempt + 1
end
local till, _, made = struct.unpack('>I6I6I6', ARGV[1], 61)
local record = string.sub(ARGV[1], 1, 4) .. struct.pack('>I4', attempt) .. string.sub(ARGV[1], 9, 60) ..
  struct.pack('>I6I6I6I6', now + till - made - 10, created, now, ARGV[2] == '' and 0 or now + ARGV[2]) .. string.sub(ARGV[1], 85)
if ARGV[2] == '' then
  redis.call('SET', KEYS[1], record)
else
  redis.call('SET', KEYS[1], record, 'PX', ARGV[2])
end
return {verdict, attempt, now}
