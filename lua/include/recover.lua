-- recover: runs whose lease expired, because their worker died, hung or was cut off.
-- Needs   job, over, bury, wake, event, spoil, leases
-- Gives   recover(limit), is_full()
-- State   running -> scheduled | dead | (ended, if it was cancelled)

local function recover_run(run_id)
  local own = job_of(run_id)
  local key = own and run_key(run_id) or job_key(run_id)
  local run = to_table(call('HGETALL', key))
  if not run.fence then
    return -- settled long ago; the lease was a leftover
  end
  local job = own and to_table(call('HGETALL', job_key(own))) or run
  local attempt = (tonumber(run.attempt) or 0) + 1
  local recoveries = tonumber(run.recoveries) or 0
  local anew = not own and is_anew(run)
  local first, last, count = span_of(run.fire_ms, run.fires)
  if run.cancel or anew or not (job.record or run.record) then
    local reason = anew and not run.cancel and 'replaced' or 'cancelled'
    event('cancelled', own or run_id, reason, first, last, count, attempt, nil, own and run_id)
    end_run(run_id, own, job)
  elseif job.delivery == 'at_most_once' then
    event('dead', own or run_id, 'at_most_once', first, last, count, attempt, nil, own and run_id)
    bury(run_id, own, 'at_most_once', 'its worker ' .. run.owner .. ' died')
  elseif recoveries >= (tonumber(job.max_recoveries) or 3) then
    event('dead', own or run_id, 'recoveries_used_up', first, last, count, attempt, nil, own and run_id)
    bury(run_id, own, 'recoveries_used_up', 'its workers died ' .. (recoveries + 1) .. ' times, the last was ' .. run.owner)
  else
    event('recovered', own or run_id, 'lease_expired', run.fire_ms, run.fire_ms, 1, attempt, run.owner)
    call('HDEL', key, 'fence', 'owner')
    call('HSET', key, 'attempt', attempt, 'recoveries', recoveries + 1)
    if own then
      call('ZREM', prefix .. 'live:' .. own, run_id)
      call('SADD', prefix .. 'waiting:' .. own, run_id)
    end
    local queue = run.queue or job.queue
    call('ZADD', due_key(queue), now_ms, run_id)
    wake(queue or 'default', now_ms)
  end
end

local function recover_all(expired)
  for _, run_id in ipairs(expired) do
    local fine, problem = pcall(recover_run, run_id)
    if not fine then
      spoil(run_id, problem)
    end
  end
  in_chunks('ZREM', leases, expired)
end

local function recover(limit)
  recover_all(call('ZRANGE', leases, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, limit))
end

-- Whether the instances of a job that hold a lease are as many as may be, with `others`. One whose lease has ended
-- does not count; it loses its fencing token here, for with that it could go on beside the one that takes its place.
local function is_full(id, max_instances, others)
  local live, places = prefix .. 'live:' .. id, (tonumber(max_instances) or 1) - others
  if call('ZCARD', live) < places then
    return false
  end
  local ended = call('ZRANGE', live, '-inf', now_ms, 'BYSCORE')
  recover_all(ended)
  in_chunks('ZREM', live, ended) -- what was a leftover as well: it would take a place for ever
  return call('ZCARD', live) >= places
end
