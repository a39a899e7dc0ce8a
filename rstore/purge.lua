-- Purge: an operator has a record forgotten, whatever it says.
-- KEYS[1]  the record (layout: idem/layout.go; offsets here are 1-based)
-- KEYS[2]  where its response may be
-- Returns {how many of the two there were, when the record was last updated in ms,
-- or 0 if this build cannot tell, its owner token}. That time is before that of
-- every record which is made after this. Since those may be 10 ms old (acquire.lua),
-- it is 11 ms before now at most, and an earlier state of what was purged, which a
-- replica may still have, may have a later one: then the owner tells (assert.lua).
local head, updated, owner = redis.call('GETRANGE', KEYS[1], '0', '119'), 0, ''
if string.byte(head, 1) == 2 and #head >= 96 then
  local t = redis.call('TIME')
  updated = math.min(struct.unpack('>I6', head, 73), t[1] * 1000 + math.floor(t[2] / 1000) - 11)
  owner = string.sub(head, 9, 24)
elseif string.byte(head, 1) == 1 and #head == 120 then
  updated = struct.unpack('>I8', head, 105)
end
return {redis.call('DEL', unpack(KEYS)), updated, owner}
