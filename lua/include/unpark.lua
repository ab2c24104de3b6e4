-- unpark: out of the place where something is parked (see park).
-- Needs   job, wake, prefix, call
-- Gives   parking, parked_key(), place_of(), due_at(), unpark(), back_to_due(), runs_back_to_due(), all_back_to_due()
-- State   scheduled -> scheduled
local parking = prefix .. 'parking'

local function parked_key(place)
  return prefix .. 'parked:' .. place
end

local function place_of(need, queue)
  return need .. ' ' .. queue -- the name of a queue has no space
end

-- When it is due, or was when it was parked; false or nil where it is neither.
local function due_at(member, queue, place)
  return call('ZSCORE', due_key(queue), member) or (place and call('ZSCORE', parked_key(place), member))
end

-- Take a member out of its place, if it is in one. Returns the instant at which it was due.
local function unpark(member, key, place)
  if not place then
    return nil
  end
  local at_ms = call('ZSCORE', parked_key(place), member)
  call('ZREM', parked_key(place), member)
  call('HDEL', key, 'parked')
  return at_ms or now_ms
end

-- It is due as before: the worker that claims it determines again what it needs.
local function back_to_due(member, key, place, queue)
  call('ZADD', due_key(queue), unpark(member, key, place), member)
end

-- The same for the attempts of a job whose record changes: they run what it says.
local function runs_back_to_due(id, queue)
  for _, run_id in ipairs(call('SMEMBERS', prefix .. 'waiting:' .. id)) do
    local run = call('HMGET', run_key(run_id), 'parked', 'queue')
    if run[1] then
      local its_queue = run[2] or queue or 'default'
      back_to_due(run_id, run_key(run_id), run[1], its_queue)
      wake(its_queue, now_ms)
    end
  end
end

local function all_back_to_due(id, job)
  if job.parked then
    back_to_due(id, job_key(id), job.parked, job.queue)
  end
  if job.needs then
    runs_back_to_due(id, job.queue)
  end
end
