-- Settle: renew, complete, release and hold for the owner, resolve and take for an
-- operator. One script, since they differ in a row of a table, and that table
-- is idem.Transitions; the contract suite walks its every cell through here.
-- It runs when Redis is full, too: what was granted must come to its end.
--
-- KEYS[1]  the record (layout: idem/layout.go; offsets here are 1-based)
-- KEYS[2]  where a response goes that the record is to outlive. Without it (see
--          script.run) the response stays in the record
-- KEYS[3]  where the client has just put a large response, so that it need not come
--          through here, which copies it twice: it becomes KEYS[2]. It is not there
--          after this, whatever comes of it
-- ARGV[1]  event, as in idem/state.go: 1 renew, 2 complete, 3 release, 4 hold,
--          5 resolve as completed, 6 resolve as free, 7 take
-- ARGV[2]  owner token, 16 bytes. For 5 and 6 zeros stand for whichever attempt it is
-- ARGV[3]  for 1: lease, ms. For 2 and 3, if the client knows this server's clock:
--          until when is replayed (or 0), 6 bytes as in the record
-- ARGV[4]  retention and remember, 12 bytes as in the record; or nothing, which
--          stands for those of the record. Before them, if the client knows this
--          server's clock: updated and expires, 12 bytes as in the record
-- ARGV[5]  for how long that makes the record stay, ms, if it ends: a number that
--          is only passed on stays a string, since Redis would print it anew, which
--          costs as much as a look-up. Nothing if ARGV[4] is
-- ARGV[6]  the response, encoded, for 2 and 5; nothing with KEYS[3]
-- ARGV[7]  for how long it is replayed, ms, if it goes to KEYS[2]
--
-- Returns 6 (done, or done before), 7 (lost), 8 (not unknown), or -1 for a
-- layout that this build does not know. Or -3, and nothing was done: there is no
-- response at KEYS[3], or this user may not rename it. Time is the server's.
local UNSTAGED = -3

-- The common end: an attempt that is under way is completed or released by its
-- owner, and its times are known. Whether its lease has lapsed does not matter to
-- that (idem.Transitions). GETEX reads, and does not have Redis remember who did; a
-- user who may not use it takes the longer way.
if #ARGV[4] == 24 then
  local head = redis.pcall('GETEX', KEYS[1])
  local is = type(head) == 'string' and string.sub(head, 9, 24) == ARGV[2] and string.sub(head, 1, 3)
  if is == '\2\1\0' or is == '\2\1\1' then
    local to, response = '\2\2', ARGV[6]
    if ARGV[1] == '3' then
      to = '\2\0'
    end
    if ARGV[7] and KEYS[2] then
      if not KEYS[3] then
        redis.call('SET', KEYS[2], response, 'PX', ARGV[7])
      elseif not redis.pcall('RENAME', KEYS[3], KEYS[2]).ok then
        redis.call('DEL', KEYS[3])
        return UNSTAGED
      end
      to, response = to .. (is == '\2\1\0' and '\2' or '\3'), ''
    else
      to = to .. string.sub(is, 3)
    end
    redis.call('SET', KEYS[1], to .. string.sub(head, 4, 60) .. ARGV[3] .. string.sub(head, 67, 72) .. ARGV[4] ..
      string.sub(head, 97) .. response, 'PX', ARGV[5])
    return 6
  end
end

local OK, LOST, NOT_UNKNOWN, VERSION = 6, 7, 8, -1
local ABSENT, IN_PROGRESS, COMPLETED, UNKNOWN = 0, 1, 2, 3
local RENEW, COMPLETE, RELEASE, HOLD, RESOLVE_COMPLETE, TAKE = '1', '2', '3', '4', '5', '7'
local NOBODY = string.rep('\0', 16)
local event = ARGV[1]
local refused = (event == '5' or event == '6') and NOT_UNKNOWN or LOST
local function unstage(verdict)
  if KEYS[3] then
    redis.call('DEL', KEYS[3])
  end
  return verdict
end

-- Head and names in one read; of a completed record, the head is all that
-- matters, and the rest is bounded by 1 KiB.
local head = redis.call('GETRANGE', KEYS[1], '0', '1143')
if head == '' then
  return unstage(refused)
end
local version = string.byte(head, 1)
if version == 1 then
  head = layout2(head)
elseif version ~= 2 then
  return unstage(VERSION)
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state, holds = string.byte(head, 2), string.byte(head, 3) % 2
if state == IN_PROGRESS and holds == 1 and now >= struct.unpack('>I6', head, 61) then
  state = UNKNOWN
end

local to
if refused == NOT_UNKNOWN then
  if state ~= UNKNOWN then
    return NOT_UNKNOWN
  elseif ARGV[2] ~= NOBODY and ARGV[2] ~= string.sub(head, 9, 24) then
    return LOST -- another attempt is unknown than the one that was looked at
  end
  to = event == RESOLVE_COMPLETE and COMPLETED or ABSENT
else
  if string.sub(head, 9, 24) ~= ARGV[2] then
    return unstage(LOST)
  end
  if ((event == RELEASE or event == TAKE) and state == ABSENT) or (event == COMPLETE and state == COMPLETED)
      or (event == HOLD and state == UNKNOWN) then
    return unstage(OK) -- done before, and the answer was lost
  end
  if state == ABSENT or state == COMPLETED or (state == UNKNOWN and (event == RENEW or event == TAKE)) then
    return unstage(LOST)
  end
  to = ({[RENEW] = IN_PROGRESS, [COMPLETE] = COMPLETED, [RELEASE] = ABSENT, [HOLD] = UNKNOWN, [TAKE] = ABSENT})[event]
end

local keep = ARGV[4] ~= '' and string.sub(ARGV[4], -12) or string.sub(head, 85, 96)
local retention, remember = struct.unpack('>I6I6', keep)
local till, expires, flags, response = 0, now + retention, holds, ''
if to == IN_PROGRESS then
  till = now + ARGV[3]
  expires = holds == 1 and 0 or till + retention
elseif to == UNKNOWN then
  expires = 0 -- held until somebody says what happened
elseif to == COMPLETED then
  till, expires = now + retention, now + retention + remember
  if KEYS[3] then
    if not redis.pcall('RENAME', KEYS[3], KEYS[2]).ok then
      return unstage(UNSTAGED)
    end
    flags = holds + 2
  elseif remember > 0 and KEYS[2] then
    -- It goes to a key of its own, so that it can end alone. Its end is that
    -- of the record's time to replay, to the millisecond.
    redis.call('SET', KEYS[2], ARGV[6], 'PXAT', till)
    flags = holds + 2
  else
    response = ARGV[6]
  end
end
-- What an operator made of a key is not its owner's: a late ending is lost.
local owner = refused == NOT_UNKNOWN and NOBODY or string.sub(head, 9, 24)
local record = '\2' .. string.char(to, flags) .. string.sub(head, 4, 8) .. owner .. string.sub(head, 25, 60) ..
  struct.pack('>I6', till) .. string.sub(head, 67, 72) .. struct.pack('>I6I6', now, expires) .. keep ..
  string.sub(head, 97) .. response
if expires == 0 then
  redis.call('SET', KEYS[1], record)
else
  redis.call('SET', KEYS[1], record, 'PX', ARGV[5] ~= '' and ARGV[5] or expires - now)
end
return OK
