-- Purge: an operator has a record forgotten, whatever it says.
-- KEYS[1]  the record (layout: idem/layout.go; offsets here are 1-based)
-- KEYS[2]  where its response may be
-- Returns {how many of the two there were, when the record was last updated in ms,
-- or 0 if this build cannot tell}. That time is never before that of any earlier
-- state of the record, which a replica may still have: see assert.lua.
local head, updated = redis.call('GETRANGE', KEYS[1], '0', '119'), 0
if string.byte(head, 1) == 2 then
  updated = struct.unpack('>I6', head, 73)
elseif string.byte(head, 1) == 1 then
  updated = struct.unpack('>I8', head, 105)
end
return {redis.call('DEL', unpack(KEYS)), updated}
