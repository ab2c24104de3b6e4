-- job: what several transitions need to know of jobs and runs.
-- Needs   prefix, call, whole()
-- Gives   job_key(), run_key(), job_of(), due_key(), declared_key(), free_run_id(), span_of(), to_table(), live_count(), end_job(), end_if_over(), in_chunks()
--         untag(), next_version()

local function job_key(id)
  return prefix .. 'job:' .. id
end

local function run_key(run_id)
  return prefix .. 'run:' .. run_id
end

local function due_key(queue)
  return prefix .. 'due:' .. (queue or 'default')
end

-- The job of a run that has a separate hash; nil for the only run of a one-shot job, which is in the job's
-- hash. An id never ends in '@' and digits (the API refuses it), so the two cannot be confused.
local function job_of(run_id)
  if string.find(run_id, '@', 1, true) then
    return string.match(run_id, '^(.+)@%d+$')
  end
  return nil
end

-- What was declared by an application: id -> its entry, a msgpack map (redsched/declarations/definition.py).
local function declared_key(application)
  return prefix .. 'declared:' .. application
end

-- A name for a run beside the schedule: no other run has that millisecond, nor will the fire that comes next.
local function free_run_id(id, at_ms, next_ms)
  local run_id
  -- Beyond these bounds adding 1 to a number may change nothing, and the search would never end.
  at_ms = at_ms and at_ms == at_ms and math.floor(math.max(0, math.min(at_ms, 253402300799999))) or now_ms
  repeat
    run_id = id .. '@' .. string.format('%.0f', at_ms)
    local taken = at_ms == next_ms or call('EXISTS', run_key(run_id)) == 1
    at_ms = at_ms + 1
  until not taken
  return run_id
end

-- The fires that a run still has to do: its own, or what is left of a batch. First, last, how many.
local function span_of(fire_ms, batch)
  local fires = batch and cmsgpack.unpack(batch) or { fire_ms }
  return fires[1], fires[#fires], #fires
end

local function to_table(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

-- Instances of a job that hold a lease. One whose lease has ended does not count, even before it is recovered.
local function live_count(id)
  return call('ZCOUNT', prefix .. 'live:' .. id, '(' .. string.format('%.0f', now_ms), '+inf')
end

-- Call `command key ...` with a list that may be longer than Lua's stack.
local function in_chunks(command, key, list)
  for from = 1, #list, 1000 do
    call(command, key, unpack(list, from, math.min(from + 999, #list)))
  end
end

local function untag(id, tags)
  if tags then
    local fine, names = pcall(cmsgpack.unpack, tags)
    for _, name in ipairs(fine and type(names) == 'table' and names or {}) do
      if type(name) == 'string' then
        call('SREM', prefix .. 'tag:' .. name, id)
      end
    end
  end
end

-- Count a change of a job's definition. What another program spoilt counts as 0, as where it is read.
local function next_version(key)
  local version = whole(call('HGET', key, 'version')) or 0
  call('HSET', key, 'version', string.format('%.0f', version + 1))
end

-- Forget a job that has ended.
local function end_job(id, tags)
  call('DEL', job_key(id))
  untag(id, tags)
end

-- End a job whose last run has ended, if its schedule has no further fire.
local function end_if_over(id)
  local key = job_key(id)
  local job = call('HMGET', key, 'record', 'next_ms', 'state', 'fence', 'tags', 'queue', 'parked')
  if not job[1] or job[2] or job[3] or job[4] or job[7] then
    return
  end
  if call('EXISTS', prefix .. 'live:' .. id, prefix .. 'waiting:' .. id) > 0 then
    return
  end
  if call('ZSCORE', due_key(job[6] or nil), id) then
    return
  end
  end_job(id, job[5])
end
