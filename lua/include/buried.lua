-- buried: how many bytes the dead runs take, counted as they come and go.
-- Needs   call, clock, whole
-- Gives   count_dead(key, bytes), uncount_dead(key) -> the bytes that it took
-- Why     A dead run holds a record of up to a megabyte: a bound on their number alone allows gigabytes.

local count_dead, uncount_dead
do
  local function add_bytes(bytes)
    local total = whole(call('HGET', clock, 'dead_bytes') or nil) or 0
    call('HSET', clock, 'dead_bytes', string.format('%.0f', math.max(0, total + bytes)))
  end

  function count_dead(key, bytes)
    call('HSET', key, 'dead_bytes', bytes)
    add_bytes(bytes)
  end

  -- It is dead no more, or forgotten. One that an older version buried was not counted.
  function uncount_dead(key)
    local bytes = whole(call('HGET', key, 'dead_bytes') or nil)
    if bytes then
      add_bytes(-bytes)
      call('HDEL', key, 'dead_bytes')
    end
    return bytes or 0
  end
end
