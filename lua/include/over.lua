-- over: a run has ended.
-- Needs   job, wake, call
-- Gives   is_anew(), end_run()
-- State   running -> (ended)

-- Whether a one-shot job was scheduled again while it ran: the new schedule, or pause, stays.
local function is_anew(job)
  return job.next_ms or job.state
end

-- The run is over: forget it, and its job where nothing else is left of that.
local function end_run(run_id, own, job)
  if own then
    call('DEL', run_key(run_id))
    call('ZREM', prefix .. 'live:' .. own, run_id)
    local blocked = call('HGET', job_key(own), 'blocked')
    if blocked and call('SISMEMBER', prefix .. 'waiting:' .. own, blocked) == 1 then
      local queue = call('HGET', run_key(blocked), 'queue') or call('HGET', job_key(own), 'queue') or nil
      call('ZADD', due_key(queue), 'XX', now_ms, blocked) -- here is a place for it
      wake(queue or 'default', now_ms)
    end
    end_if_over(own)
  elseif is_anew(job) or call('EXISTS', prefix .. 'live:' .. run_id, prefix .. 'waiting:' .. run_id) > 0 then
    call(
      'HDEL', job_key(run_id), 'fence', 'owner', 'fire_ms', 'attempt', 'recoveries', 'lost', 'excused', 'cancel', 'leave',
      'begun'
    )
    if not job.periodic then
      call('HDEL', job_key(run_id), 'next_ms')
    end
  else
    end_job(run_id, job.tags)
  end
end
