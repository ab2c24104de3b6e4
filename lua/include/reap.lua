-- reap: workers that are gone, and dead runs that are too old, too many or too large.
-- Needs   shorten, job, buried, bury, lost, event, places, workers, dead
-- Gives   reap(worker_ttl_ms), forget_surplus(dead_age_ms, dead_max, dead_max_bytes)
-- State   scheduled -> dead, for jobs that only a process could run that is gone

local FORGOTTEN_AT_ONCE = 100

local function forget_dead(run_id)
  local own = job_of(run_id)
  local key = own and run_key(run_id) or job_key(run_id)
  local h = call('HMGET', key, 'state', 'tags', 'application', 'periodic')
  if h[1] ~= 'dead' then
    return 0
  end
  if h[3] and h[4] then
    call('HDEL', declared_key(h[3]), run_id) -- a schedule that raised is not over
  end
  local bytes = uncount_dead(key)
  call('DEL', key)
  untag(run_id, h[2])
  return bytes
end

-- Returns the bytes that they took.
local function forget(run_ids)
  local freed = 0
  for _, run_id in ipairs(run_ids) do
    local fine, bytes = pcall(forget_dead, run_id)
    freed = freed + (fine and bytes or 0)
    call('ZREM', dead, run_id)
  end
  return freed
end

-- The oldest first, and each time more of them than were buried, so that the bounds hold however many die.
local function forget_surplus(dead_age_ms, dead_max, dead_max_bytes)
  local most = FORGOTTEN_AT_ONCE + 2 * burials
  forget(call('ZRANGE', dead, '-inf', now_ms - dead_age_ms, 'BYSCORE', 'LIMIT', 0, most))
  local surplus = call('ZCARD', dead) - dead_max
  if surplus > 0 then
    forget(call('ZRANGE', dead, 0, math.min(surplus, most) - 1))
  end
  local bytes = whole(call('HGET', clock, 'dead_bytes')) or 0
  while bytes > dead_max_bytes and most > 0 do
    local oldest = call('ZRANGE', dead, 0, 0)
    if not oldest[1] then
      call('HDEL', clock, 'dead_bytes') -- what an older version forgot was not subtracted
      break
    end
    bytes, most = bytes - forget(oldest), most - 1
  end
end

local reap
do
  local AHEAD_MS = 86400000

  local function reap_worker(id)
    local queue = 'local:' .. id
    free_local(queue)
    local stranded = call('ZRANGE', due_key(queue), 0, 99)
    for _, run_id in ipairs(stranded) do
      local own = job_of(run_id)
      local first, last, count = lost.of_member(run_id, own, call('ZSCORE', due_key(queue), run_id))
      call('ZREM', due_key(queue), run_id)
      if not own then
        redis.pcall('HDEL', job_key(run_id), 'next_ms', 'after_ms', 'periodic')
      end
      event('dead', own or run_id, 'process_gone', first, last, count, nil, nil, run_id)
      local why = 'the process ' .. id .. ', the only one that had this function, is gone'
      pcall(bury, run_id, own, 'process_gone', why)
    end
    return #stranded < 100
  end

  function reap(worker_ttl_ms)
    local ahead = string.format('%.0f', now_ms + AHEAD_MS)
    shorten(leases, 100)
    for _, id in ipairs(call('ZRANGE', workers, ahead, '+inf', 'BYSCORE', 'LIMIT', 0, 10)) do
      call('ZADD', workers, 0, id) -- no heartbeat is of the future: if it lives, it tells again
    end
    for _, id in ipairs(call('ZRANGE', workers, '-inf', now_ms - worker_ttl_ms, 'BYSCORE', 'LIMIT', 0, 10)) do
      local fine, is_done = pcall(reap_worker, id)
      if is_done or not fine then -- not fine: its queue is of another type
        call('ZREM', workers, id)
      end
    end
  end
end
