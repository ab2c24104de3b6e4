-- restart: a run begins again elsewhere.
-- Needs   job, wake, event
-- Gives   start_over(run_id, own, key, run, job, reason, innocent)
-- State   running -> scheduled

-- Put a run back whose worker is gone, or stands still. What another run did to its worker is not counted.
local function start_over(run_id, own, key, run, job, reason, innocent)
  local attempt = whole(run.attempt) or 0
  local of_fire = run.fires and run.fire_ms and own .. '@' .. run.fire_ms or run_id -- of a batch: the fire that it was at
  event('recovered', own or run_id, reason, run.fire_ms, run.fire_ms, 1, attempt + 1, run.owner, of_fire)
  if innocent then
    call('HINCRBY', key, 'excused', 1)
  else
    local lost = string.sub(run.lost or '', -200) .. run.fence .. ' '
    call('HSET', key, 'attempt', attempt + 1, 'recoveries', (whole(run.recoveries) or 0) + 1, 'lost', lost)
  end
  call('HDEL', key, 'fence', 'owner')
  if own then
    call('ZREM', prefix .. 'live:' .. own, run_id)
    call('SADD', prefix .. 'waiting:' .. own, run_id)
  end
  local queue = run.queue or job.queue
  call('ZADD', due_key(queue), now_ms, run_id)
  wake(queue or 'default', now_ms)
end
