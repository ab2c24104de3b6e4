-- claim: a due run, under a lease and with a new fencing token.
-- Needs   whole, job, event, recover (is_full), unpark, park, beside_seal, worker, leases, lease_ms, readable
-- Gives   claim_member(), start_run(), has_no_place()
--         claiming: bounds of what it takes from a job
--         fires_of(run) -> the fires of a batch that are left, or false
--         claims, plans: rows are collected here; claimed_ids, lease_args: their runs, as flat lists
--         served: the places (see park) that this worker serves
-- State   scheduled -> running
--
-- A claims row: 1 run id, 2 fence, 3 attempt, 4 fire_ms, 5 record (or its length: see readable), 6 queue,
--               7 fires of its batch or false, 8 the fire that the worker is to find the following one of, 9 job version,
--               10 how often it was postponed before, 11 1 if it was started in time before (no misfire then);
--               of a sealed record also what is beside it (include/beside_seal)
-- A plain claim, of a one-shot job of the queue `default` with nothing but its record, is not a row: run id, fence, fire_ms
--               and record stand in `claims` themselves. A list of lists takes Redis longer.
-- A plans row:  1 job id, 2 plan fence, 3 next_ms, 4 version, 5 running, 6 runs left or false, 7 record, 8 queue,
--               9 how often it was postponed before; of a sealed record also what is beside it
-- An instant is at most the last one of the year 9999.
local claiming = { last_ms = 253402300799999, blocked_ms = 3000 }
local claims, plans, served = {}, {}, {}
local claimed_ids, lease_args = {}, {}
local lease_until = string.format('%.0f', now_ms + lease_ms) -- Redis would format the number for each run

local function hold(run_id)
  lease_args[#lease_args + 1] = lease_until
  lease_args[#lease_args + 1] = run_id
  claimed_ids[#claimed_ids + 1] = run_id
end

-- Start a run that has its own hash. `fields` are its further fields, a flat list.
local function start_run(run_id, own, fence, fields)
  call('HSET', run_key(run_id), 'fence', fence, 'owner', worker, unpack(fields))
  call('ZADD', prefix .. 'live:' .. own, lease_until, run_id)
  hold(run_id)
end

-- A job that needed what other workers have, needs it again: to its place with what is due, without a claim in vain.
-- That is known for as long as its place is listed.
local REASONS = { task = 'unknown_task', executor = 'unknown_executor' }
local function send_on(member, key, need, queue, at_ms)
  local place = place_of(need, queue)
  if served[place] or not call('ZSCORE', parking, place) then
    return false
  end
  park_at(member, key, place, at_ms)
  call('HSET', key, 'reason', REASONS[string.match(need, '^%l+')] or 'unreadable')
  return true
end

-- Whether another instance of a periodic job may run. A run that found no free place is promised the next one: newer
-- fires would else keep it waiting for as long as the job is busy. It asks again each second, so the promise ends by
-- itself if its queue is no longer served.
local function has_no_place(id, job)
  local promised = (whole(job.blocked_ms, 0, now_ms + claiming.blocked_ms) or 0) > now_ms and 1 or 0
  return is_full(id, job.max_instances, promised + (job.fence and 1 or 0)) -- a fence: it was a one-shot job, and runs
end

-- A periodic job: hand out its fire and move it on in one step, or hand it to the worker to be planned.
local function claim_periodic(id, job, queue, due, remove)
  local fire_ms = assert(whole(job.next_ms, 0, claiming.last_ms), 'its next fire is not an instant')
  local after = whole(job.after_ms, 0, claiming.last_ms)
  assert(not job.runs_left or whole(job.runs_left), 'its number of runs left is not a number')
  if not after or (after ~= 0 and after <= now_ms) then
    -- Something was missed, or the following fire is not known. If this worker dies, another plans after the lease.
    local fence = next_fence()
    call('HSET', job_key(id), 'plan_fence', fence)
    call('ZADD', due, now_ms + lease_ms, id)
    plans[#plans + 1] = {
      id, fence, fire_ms, whole(job.version) or 0, live_count(id), whole(job.runs_left) or false,
      readable(job.record), queue, whole(job.postponed) or 0, beside_seal(job.record, job, {}),
    }
    return
  end
  if has_no_place(id, job) then
    event('skipped', id, 'max_instances', fire_ms, fire_ms, 1)
  else
    local fence = next_fence()
    local run_id = id .. '@' .. job.next_ms
    local fields = { 'job', id, 'fire_ms', job.next_ms }
    if job.queue then
      fields[5], fields[6] = 'queue', job.queue
    end
    start_run(run_id, id, fence, fields)
    if job.runs_left and call('HINCRBY', job_key(id), 'runs_left', -1) <= 0 then
      after = 0
    end
    call('HSET', job_key(id), 'claim_fence', fence)
    if job.postponed then
      call('HDEL', job_key(id), 'reason', 'postponed')
    end
    claims[#claims + 1] = {
      run_id, fence, 1, fire_ms, readable(job.record), queue, false, after ~= 0 and after or false, whole(job.version) or 0,
      whole(job.postponed) or 0, 0, beside_seal(job.record, job, {}),
    }
  end
  if after == 0 then
    call('HDEL', job_key(id), 'next_ms', 'after_ms')
    remove[#remove + 1] = id
  else
    call('HSET', job_key(id), 'next_ms', after)
    call('HDEL', job_key(id), 'after_ms')
    call('ZADD', due, after, id)
  end
end

-- The fires of a batch that are left. A reply of nested lists would break the worker's connection.
local function fires_of(run)
  if not run.fires then
    return false
  end
  local fires = assert(#run.fires < 10000000 and cmsgpack.unpack(run.fires), 'its fires are not a list')
  for i = 1, #fires do
    local at_ms = fires[i]
    assert(type(at_ms) == 'number' and at_ms % 1 == 0 and at_ms >= 0 and at_ms <= claiming.last_ms, 'its fires are not instants')
  end
  return fires
end

-- A further attempt of a run that has its own hash (a retry, a recovered or a requeued run).
local function claim_waiting(run_id, own, due_ms, queue, due, remove)
  local run = to_table(call('HGETALL', run_key(run_id)))
  local job = call('HMGET', job_key(own), 'record', 'max_instances', 'fence', 'blocked', 'needs')
  local record = run.record or job[1]
  unpark(run_id, run_key(run_id), run.parked)
  if not record or not run.fire_ms then
    call('DEL', run_key(run_id))
    call('SREM', prefix .. 'waiting:' .. own, run_id)
    event('cancelled', own, 'removed', run.fire_ms, run.fire_ms, 1, nil, nil, run_id)
    remove[#remove + 1] = run_id
    return
  end
  if job[5] and send_on(run_id, run_key(run_id), job[5], queue, due_ms) then
    remove[#remove + 1] = run_id
    return
  end
  local fire_ms = assert(whole(run.fire_ms, 0, claiming.last_ms), 'its fire is not an instant')
  if is_full(own, job[2], job[3] and 1 or 0) then
    call('ZADD', due, now_ms + 1000, run_id)
    if job[1] then
      call('HSET', job_key(own), 'blocked', run_id, 'blocked_ms', now_ms + claiming.blocked_ms)
    end
    return
  end
  if job[4] == run_id then
    call('HDEL', job_key(own), 'blocked', 'blocked_ms')
  end
  local fence = next_fence()
  call('SREM', prefix .. 'waiting:' .. own, run_id)
  start_run(run_id, own, fence, { 'job', own })
  remove[#remove + 1] = run_id
  claims[#claims + 1] = {
    run_id, fence, (whole(run.attempt) or 0) + 1, fire_ms, readable(record), queue,
    fires_of(run), false, 0, whole(run.postponed) or 0,
    whole(run.begun) or 0, beside_seal_of_run(record, own, run),
  }
end

-- A one-shot job's only run, in the job's own hash.
local function claim_own(id, job, due_ms, queue)
  local fire_ms = assert(whole(job.fire_ms or due_ms, 0, claiming.last_ms), 'it is due at no instant')
  local fence = next_fence()
  call('HSET', job_key(id), 'fence', fence, 'owner', worker, 'fire_ms', fire_ms)
  hold(id)
  claims[#claims + 1] = {
    id, fence, (whole(job.attempt) or 0) + 1, fire_ms, readable(job.record), queue, false, false, 0,
    whole(job.postponed) or 0, whole(job.begun) or 0, beside_seal(job.record, job, job),
  }
end

-- A one-shot job that was scheduled again while runs of its id are active: a further instance, or none.
local function claim_beside(id, job, due_ms, queue)
  assert(whole(due_ms, 0, claiming.last_ms), 'it is due at no instant')
  call('HDEL', job_key(id), 'next_ms', 'beside')
  if is_full(id, job.max_instances, job.fence and 1 or 0) then
    event('skipped', id, 'max_instances', due_ms, due_ms, 1)
  elseif not job.fence then
    claim_own(id, job, due_ms, queue)
  else
    local fence = next_fence()
    local run_id = free_run_id(id, tonumber(due_ms))
    start_run(run_id, id, fence, { 'job', id, 'fire_ms', due_ms, 'record', job.record, 'queue', queue })
    call('HSET', job_key(id), 'has_runs', 1)
    claims[#claims + 1] = {
      run_id, fence, 1, tonumber(due_ms), readable(job.record), queue, false, false, 0, 0, 0,
      beside_seal(job.record, job, {}),
    }
  end
end

local function claim_member(id, due_ms, queue, due, remove)
  local own = job_of(id)
  if own then
    return claim_waiting(id, own, due_ms, queue, due, remove)
  end
  local key = job_key(id)
  local fields = call('HGETALL', key)
  if #fields == 2 and queue == 'default' and string.find(due_ms, '^%d+$') then
    -- The usual case: a one-shot job with nothing but its record.
    local fence = string.format('%.0f', next_fence())
    call('HSET', key, 'fence', fence, 'owner', worker, 'fire_ms', due_ms)
    hold(id)
    remove[#remove + 1] = id
    local n = #claims
    claims[n + 1], claims[n + 2], claims[n + 3], claims[n + 4] = id, fence, due_ms, readable(fields[2])
    return
  end
  local job = to_table(fields)
  unpark(id, key, job.parked)
  if not job.record or (job.needs and send_on(id, key, job.needs, queue, job.next_ms or due_ms)) then
    remove[#remove + 1] = id
  elseif job.periodic then
    claim_periodic(id, job, queue, due, remove)
  else
    remove[#remove + 1] = id
    if job.fence or job.beside or (job.has_runs and not job.fire_ms) then
      claim_beside(id, job, due_ms, queue)
    elseif job.has_runs and is_full(id, job.max_instances, 0) then
      remove[#remove] = nil
      call('ZADD', due, now_ms + 1000, id) -- another attempt: it waits for a free place
    else
      claim_own(id, job, due_ms, queue)
    end
  end
end
