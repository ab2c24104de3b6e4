-- recover: runs whose lease expired, because their worker died, hung or was cut off.
-- Needs   job, over, bury, event, spoil, stall, restart, shorten, leases
-- Gives   recover(limit), is_full()
-- State   running -> scheduled | dead | (ended, if it was cancelled)

-- Says whether the run is held still.
local function recover_run(run_id)
  local own = job_of(run_id)
  local key = own and run_key(run_id) or job_key(run_id)
  local run = to_table(call('HGETALL', key))
  if not run.fence then
    return false -- settled long ago; the lease was a leftover
  end
  local voucher = stall.voucher_of(run.owner or '')
  if stall.goes_on(run_id, own, voucher) then
    return true
  end
  local job = own and to_table(call('HGETALL', job_key(own))) or run
  local attempt = (whole(run.attempt) or 0) + 1
  local recoveries = whole(run.recoveries) or 0
  local again = not own and is_anew(run)
  local first, last, count = span_of(run.fire_ms, run.fires)
  local stalled = stall.was_stalled(run_id, voucher)
  local innocent = stalled and voucher.blocker ~= '' and voucher.blocker ~= run_id and stall.may_excuse(run.excused)
  if run.cancel or again or not (job.record or run.record) then
    local reason = again and not run.cancel and 'replaced' or 'cancelled'
    event('cancelled', own or run_id, reason, first, last, count, attempt, nil, run_id)
    end_run(run_id, own, job)
  elseif job.delivery == 'at_most_once' then
    event('dead', own or run_id, 'at_most_once', first, last, count, attempt, nil, run_id)
    bury(run_id, own, 'at_most_once', 'its worker ' .. run.owner .. (stalled and ' stood still' or ' died'))
  elseif not innocent and recoveries >= (whole(job.max_recoveries) or 3) then
    event('dead', own or run_id, 'recoveries_used_up', first, last, count, attempt, nil, run_id)
    bury(run_id, own, 'recoveries_used_up', 'its workers died ' .. (recoveries + 1) .. ' times, the last was ' .. run.owner)
  else
    start_over(run_id, own, key, run, job, stalled and 'stalled' or 'lease_expired', innocent)
  end
  return false
end

-- Returns those whose leases have ended indeed.
local function recover_all(expired)
  local ended = {}
  for _, run_id in ipairs(expired) do
    local fine, held = pcall(recover_run, run_id)
    if not fine then
      spoil(run_id, held)
    end
    if not fine or not held then
      ended[#ended + 1] = run_id
    end
  end
  in_chunks('ZREM', leases, ended)
  return ended
end

local function recover(limit)
  recover_all(call('ZRANGE', leases, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, limit))
end

-- Whether the instances of a job that hold a lease are as many as may be, with `others`. One whose lease has ended
-- does not count; it loses its fencing token here, for with that it could go on beside the one that takes its place.
local function is_full(id, max_instances, others)
  local live, places = prefix .. 'live:' .. id, (whole(max_instances) or 1) - others
  if call('ZCARD', live) < places then
    return false
  end
  local ended = recover_all(call('ZRANGE', live, '-inf', now_ms, 'BYSCORE'))
  shorten(live, 100)
  in_chunks('ZREM', live, ended) -- what was a leftover as well: it would take a place for ever
  return call('ZCARD', live) >= places
end
