-- reap: workers that are gone, and dead runs that are too old or too many.
-- Needs   job, bury, event, workers, dead
-- Gives   reap(gone_ms, dead_age_ms, dead_max)
-- State   scheduled -> dead, for jobs that only a process could run that is gone

local function forget_dead(run_id)
  local own = job_of(run_id)
  local key = own and run_key(run_id) or job_key(run_id)
  local h = call('HMGET', key, 'state', 'tags')
  if h[1] == 'dead' then
    call('DEL', key)
    untag(run_id, h[2])
  end
end

local function forget(run_ids)
  for _, run_id in ipairs(run_ids) do
    pcall(forget_dead, run_id)
    call('ZREM', dead, run_id)
  end
end

local function reap(gone_ms, dead_age_ms, dead_max)
  for _, id in ipairs(call('ZRANGE', workers, '-inf', now_ms - gone_ms, 'BYSCORE', 'LIMIT', 0, 10)) do
    local queue = 'local:' .. id
    local stranded = call('ZRANGE', due_key(queue), 0, 99)
    for _, run_id in ipairs(stranded) do
      local own = job_of(run_id)
      local fire = call('ZSCORE', due_key(queue), run_id)
      call('ZREM', due_key(queue), run_id)
      if not own then
        redis.pcall('HDEL', job_key(run_id), 'next_ms', 'after_ms', 'periodic')
      end
      event('dead', own or run_id, 'process_gone', fire, fire, 1)
      local why = 'the process ' .. id .. ', the only one that had this function, is gone'
      pcall(bury, run_id, own, 'process_gone', why)
    end
    if #stranded < 100 then
      call('ZREM', workers, id)
    end
  end
  forget(call('ZRANGE', dead, '-inf', now_ms - dead_age_ms, 'BYSCORE', 'LIMIT', 0, 100))
  local surplus = call('ZCARD', dead) - dead_max
  if surplus > 0 then
    forget(call('ZRANGE', dead, 0, math.min(surplus, 100) - 1))
  end
end
