-- layout2 is what a record of layout 1 (the first 120 bytes of it, or more) is in
-- layout 2: head and names. See idem/layout.go; offsets here are 1-based. When it
-- was changed and ends is left out, since nobody looks at that before it is
-- written anew; and the response of a completed one, which never is.
local function layout2(b)
  local state, flags = string.byte(b, 2, 3)
  local lease = struct.unpack('>I8', b, 9)
  local created, updated, expires = struct.unpack('>I8I8I8', b, 97)
  local retention, till = expires - updated, 0
  if state == 1 then
    retention, till = expires - lease, lease
  elseif state == 2 then
    till = expires
  end
  return '\2' .. string.char(state, flags % 2) .. string.sub(b, 4, 8) .. string.sub(b, 17, 48) .. string.sub(b, 65, 80) ..
    '\0\0\0\0' .. struct.pack('>I6I6I6I6I6I6', till, created, 0, 0, math.max(retention, 1), 0) .. string.sub(b, 121)
end
