-- quarantine: set aside keys that a script needs and whose type is not the one that redsched stores there.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    who found them: id of a worker, or of a client
--         names       bytes  msgpack flat list: key after the prefix, type; in the order in which they are checked
--         keep_ms     int    how long they are kept for inspection
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives quarantine job ended batches index outcome answers
-- Reply   OK now_us found; found = the keys that were set aside
-- Again   finds nothing
-- Cost    O(names)
local suspects, found = cmsgpack.unpack(names), {}
for i = 1, #suspects, 2 do
  local key = prefix .. suspects[i]
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= suspects[i + 1] then
    redis.call('RENAME', key, prefix .. 'quarantine:' .. suspects[i])
    redis.call('PEXPIRE', prefix .. 'quarantine:' .. suspects[i], keep_ms)
    found[#found + 1] = { suspects[i], kind }
  end
end
--- @include clock
--- @include event
local put_aside = {}
for i, one in ipairs(found) do
  put_aside[i] = one[1]
  event('quarantined', one[1], 'wrong_type', nil, nil, 1, false, 'it was a ' .. one[2])
end
if #found > 0 then
  publish(worker, {})
  close_clock()
end
return { 'OK', now_us, put_aside }
