-- buried: how many bytes the dead runs take, counted as they come and go.
-- Needs   call, clock
-- Gives   count_dead(key, bytes), uncount_dead(key) -> the bytes that it took
-- Why     A dead run holds a record of up to a megabyte: a bound on their number alone allows gigabytes.

local function count_dead(key, bytes)
  call('HSET', key, 'dead_bytes', bytes)
  call('HINCRBY', clock, 'dead_bytes', bytes)
end

-- It is dead no more, or forgotten. One that an older version buried was not counted.
local function uncount_dead(key)
  local bytes = tonumber(call('HGET', key, 'dead_bytes') or nil)
  if bytes then
    call('HINCRBY', clock, 'dead_bytes', -bytes)
    call('HDEL', key, 'dead_bytes')
  end
  return bytes or 0
end
