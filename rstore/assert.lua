-- Assert: what a primary that is not one any more had acknowledged to this
-- process, on the one that has followed it. What is there and older is brought up
-- to it; what is there and later stays.
--
-- KEYS[1]  the record (layout: idem/layout.go; offsets here are 1-based)
-- KEYS[2]  where a response goes that the record is to outlive
-- ARGV[1]  the state that was acknowledged, as in idem/state.go: 0 free (released,
--          or purged by an operator), 1 in progress, 2 completed, 3 unknown
-- ARGV[2]  owner token, 16 bytes; nothing for a purge, which is whoever's
-- ARGV[3]  fingerprint, binding and recipe, 36 bytes as in the record
-- ARGV[4]  retention and remember, 12 bytes as in the record
-- ARGV[5]  attempt
-- ARGV[6]  flags byte: "\1" makes the key unknown when the lease lapses
-- ARGV[7]  how long ago that state was acknowledged, ms
-- ARGV[8]  lease, ms, counted from then
-- ARGV[9]  how long ago the attempt began, ms
-- ARGV[10] the key's names, encoded
-- ARGV[11] the response, encoded, for 2
-- ARGV[12] for a purge, and for a state that followed one, when the record was last
--          updated that it deleted, ms, as purge.lua says it; nothing if none is
--          known. The purge's own time would not do: it is known here only as roughly
--          as the way to this server takes, in which a record can be made anew
-- ARGV[13] the fourth byte of the record: what explains a mismatch
-- ARGV[14] something if an operator resolved the attempt: the record has no owner then
-- ARGV[15] for ARGV[12], the owner of what was deleted
-- ARGV[16] owners, 16 bytes each, of records that were deleted before that state, it is not
--          known when
--
-- Returns 0 (it was there), 1 (it was missing), 2 (it was older), 3 (what is there
-- is somebody else's and later), or -1 for a layout that this build does not know.
-- Time is the server's.
local SAME, RESTORED, ADVANCED, CONFLICT, VERSION = 0, 1, 2, 3, -1
local ABSENT, IN_PROGRESS, COMPLETED, UNKNOWN = 0, 1, 2, 3
local NOBODY = string.rep('\0', 16)
local to, owner, holds = tonumber(ARGV[1]), ARGV[2], ARGV[6] == '\1'
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local at, created = now - ARGV[7], now - ARGV[9]
local retention, remember = struct.unpack('>I6I6', ARGV[4])
local till, expires = 0, at + retention
if to == IN_PROGRESS then
  till = at + ARGV[8]
  expires = holds and 0 or till + retention
elseif to == COMPLETED then
  till, expires = at + retention, at + retention + remember
elseif to == UNKNOWN then
  expires = 0
end
-- What has ended by now is not brought back. Of a key that is free by now, the count of
-- its attempts is.
local ended = expires ~= 0 and expires <= now
local over = ended or (to == IN_PROGRESS and not holds and till <= now)

local head = redis.call('GETRANGE', KEYS[1], '0', '119')
local outcome = RESTORED
if head == '' then
  if owner == '' or ended then
    return SAME
  end
else
  local version = string.byte(head, 1)
  if version == 1 then
    head = layout2(head)
  elseif version ~= 2 then
    return VERSION
  end
  local state, theirs = string.byte(head, 2), string.sub(head, 9, 24)
  local lapses, began, updated = struct.unpack('>I6I6I6', head, 61)
  outcome = ADVANCED
  local purged = ARGV[12] ~= '' and updated <= ARGV[12] + (theirs == ARGV[15] and 15 or 0)
  for i = 1, #ARGV[16], 16 do
    purged = purged or theirs == string.sub(ARGV[16], i, i + 15)
  end
  if owner == '' and not purged then
    return SAME -- it was made after the purge
  elseif purged and theirs ~= owner then
    redis.call('DEL', KEYS[1])
    if KEYS[2] then
      redis.call('DEL', KEYS[2])
    end
    if owner == '' or ended then
      return ADVANCED
    end
  elseif theirs == owner then
    local behind = state == IN_PROGRESS or (state == UNKNOWN and to ~= IN_PROGRESS)
    if not behind or over or state == to and (to ~= IN_PROGRESS or lapses >= till) then
      return SAME
    end
  else
    local free = state == ABSENT or
      (state == IN_PROGRESS and lapses <= now and string.byte(head, 3) % 2 == 0)
    local attempt, mine = struct.unpack('>I4', head, 5), tonumber(ARGV[5])
    local later = state == COMPLETED or (not free and began >= created)
    -- An operator said, through this process or another, what became of this very
    -- attempt: that is later than what its owner did, unless it had completed.
    local resolved = theirs == NOBODY and attempt == mine
    if ended or (resolved and (state == COMPLETED or to ~= COMPLETED)) then
      return SAME
    elseif to == ABSENT or over then
      if later or attempt >= mine then
        return SAME
      end
    elseif later or attempt > mine then
      return CONFLICT
    end
  end
end

local flags, response = holds and 1 or 0, ''
if to == COMPLETED then
  if remember > 0 and KEYS[2] then
    if till > now then
      redis.call('SET', KEYS[2], ARGV[11], 'PXAT', till)
    end
    flags = flags + 2
  else
    response = ARGV[11]
  end
end
-- As in settle.lua: what an operator made of a key is not its owner's.
local whose = ARGV[14] ~= '' and NOBODY or owner
local record = '\2' .. string.char(to, flags) .. ARGV[13] .. struct.pack('>I4', tonumber(ARGV[5])) .. whose .. ARGV[3] ..
  struct.pack('>I6I6I6I6', till, created, at, expires) .. ARGV[4] .. ARGV[10] .. response
if expires == 0 then
  redis.call('SET', KEYS[1], record)
else
  redis.call('SET', KEYS[1], record, 'PXAT', expires)
end
return outcome
