-- bury: a run ends without success and is kept for inspection and requeue.
-- Needs   job, buried, call, dead
-- Gives   bury(), burials: how many there were
-- State   running | scheduled -> dead

local burials = 0

-- `own` is the job of a run that has its own hash, nil for a one-shot job's only run.
local function bury(run_id, own, reason, err, traceback)
  -- A longer record is nothing that was scheduled: each dead run would hold a copy of it.
  local KEPT_BYTES, OVERHEAD_BYTES = 16777216, 300
  local key
  local bytes = OVERHEAD_BYTES + #(err or '') + #(traceback or '')
  if own then
    key = run_key(run_id)
    local record = call('HMGET', job_key(own), 'record', 'queue')
    if record[1] and #record[1] <= KEPT_BYTES then
      call('HSET', key, 'record', record[1])
      bytes = bytes + #record[1]
    end
    if record[2] then
      call('HSET', key, 'queue', record[2])
    end
    call('ZREM', prefix .. 'live:' .. own, run_id)
    call('SREM', prefix .. 'waiting:' .. own, run_id)
  else
    key = job_key(run_id)
    bytes = bytes + #(call('HGET', key, 'record') or '')
  end
  call('HDEL', key, 'fence', 'owner', 'cancel', 'leave', 'begun', 'parked')
  call('HSET', key, 'state', 'dead', 'reason', reason, 'error', err or '', 'dead_ms', now_ms)
  if traceback then
    call('HSET', key, 'traceback', traceback)
  end
  uncount_dead(key)
  count_dead(key, bytes)
  burials = burials + 1
  call('ZADD', dead, now_ms, run_id)
  if own then
    end_if_over(own)
  end
end
