-- Settle: renew, complete, release and hold for the owner, resolve for an
-- operator. One script, since they differ in a row of a table, and that table
-- is idem.Transitions; the contract suite walks its every cell through here.
--
-- KEYS[1]  the record (layout: idem/record.go; offsets here are 1-based)
-- ARGV[1]  event, as in idem/state.go: 1 renew, 2 complete, 3 release, 4 hold,
--          5 resolve as completed, 6 resolve as free
-- ARGV[2]  owner token, 16 bytes (not looked at for 5 and 6)
-- ARGV[3]  lease, ms
-- ARGV[4]  life: retention, and before it the lease of a renewal, ms
-- ARGV[5]  the response, encoded, for 2 and 5
--
-- Returns 6 (done, or done before), 7 (lost), 8 (not unknown), or -1 for a
-- layout that this build does not know. Time is the server's.
local OK, LOST, NOT_UNKNOWN, VERSION = 6, 7, 8, -1
local ABSENT, IN_PROGRESS, COMPLETED, UNKNOWN = 0, 1, 2, 3
local RENEW, COMPLETE, RELEASE, HOLD, RESOLVE_COMPLETE = '1', '2', '3', '4', '5'
local event = ARGV[1]
local refused = (event == '5' or event == '6') and NOT_UNKNOWN or LOST

-- Head and names in one read; of a completed record, the head is all that
-- matters, and the rest is bounded by 1 KiB.
local head = redis.call('GETRANGE', KEYS[1], '0', '1143')
if head == '' then
  return refused
end
if string.byte(head, 1) ~= 1 then
  return VERSION
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state = string.byte(head, 2)
if state == IN_PROGRESS and string.byte(head, 3) % 2 == 1 and now >= struct.unpack('>I8', head, 9) then
  state = UNKNOWN
end

local to
if refused == NOT_UNKNOWN then
  if state ~= UNKNOWN then
    return NOT_UNKNOWN
  end
  to = event == RESOLVE_COMPLETE and COMPLETED or ABSENT
else
  if string.sub(head, 17, 32) ~= ARGV[2] then
    return LOST
  end
  if (event == RELEASE and state == ABSENT) or (event == COMPLETE and state == COMPLETED)
      or (event == HOLD and state == UNKNOWN) then
    return OK -- done before, and the answer was lost
  end
  if state == ABSENT or state == COMPLETED or (state == UNKNOWN and event == RENEW) then
    return LOST
  end
  to = ({[RENEW] = IN_PROGRESS, [COMPLETE] = COMPLETED, [RELEASE] = ABSENT, [HOLD] = UNKNOWN})[event]
end

local lease = string.sub(head, 9, 16)
if to == IN_PROGRESS then
  lease = struct.pack('>I8', now + ARGV[3])
end
local names = string.sub(head, 121)
redis.call('SET', KEYS[1],
  '\1' .. string.char(to) .. string.sub(head, 3, 8) .. lease .. string.sub(head, 17, 104) ..
  struct.pack('>I8I8', now, now + ARGV[4]) .. names .. (to == COMPLETED and ARGV[5] or ''),
  'PX', ARGV[4])
return OK
