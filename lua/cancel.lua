-- cancel: end jobs by id or by tag. Running instances are stopped (cancel) or left to finish (remove).
-- Flags   allow-oom
-- State   scheduled | paused | running | dead -> (ended)
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         dead        ZSET   run id -> when, ms
-- ARGV    prefix      str    hash tag of the shard
--         request     str    <client>:<number>; a resent request has the same
--         confirmed   int    this client has confirmed the replies to all its requests below this number
--         ids         bytes  msgpack list of job ids; '' = all of the tag
--         tag         str    a tag; '' = the ids
--         account     bytes  msgpack map: job id -> {cursor, spans} (include/dropped); '' = none
--         how         str    cancel | remove | prune (remove, if its application is the one that is named)
--         application str    of prune; else ''
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job declared run live waiting tag due parked mail requests ended batches index outcome answers quarantine
-- Reply   OK now_us ended more behind; ended = the ids that existed, more = 1: call again for the rest of the tag,
--         behind = ids that still exist, because ending them drops fires: call again with their account
--         | LATE now_us (include/once)
-- Again   the first reply, kept until it is confirmed
-- Cost    O(jobs * log N), 1,000 jobs at most in one call
--
-- An account belongs to a job whose end drops fires; its cursor may be false, which matches any.
--- @include clock
--- @include event
--- @include once
--- @include mail
--- @include job
--- @include dropped
--- @include buried
--- @include unpark
if first_reply then
  return first_reply
end

-- End waiting retries. Active runs get a request to stop, or are only not retried.
local function end_runs(id, queue)
  for _, run_id in ipairs(call('SMEMBERS', prefix .. 'waiting:' .. id)) do
    local run = call('HMGET', run_key(run_id), 'queue', 'fire_ms', 'fires', 'parked')
    unpark(run_id, run_key(run_id), run[4])
    call('ZREM', due_key(queue), run_id)
    call('ZREM', due_key(run[1] or nil), run_id) -- its job may have changed queues
    local first, last, count = span_of(run[2], run[3])
    event('cancelled', id, how == 'cancel' and 'cancelled' or 'removed', first, last, count, nil, nil, run_id)
    call('DEL', run_key(run_id))
  end
  call('DEL', prefix .. 'waiting:' .. id)
  for _, run_id in ipairs(call('ZRANGE', prefix .. 'live:' .. id, 0, -1)) do
    local owner = call('HGET', run_key(run_id), 'owner')
    call('HSET', run_key(run_id), 'cancel', 1)
    if how ~= 'cancel' then
      call('HSET', run_key(run_id), 'leave', 1)
    elseif owner then
      tell(owner, 'cancel ' .. run_id)
    end
  end
end

-- A declared job that an operator ends stays away until its declaration changes; one that was pruned is forgotten.
local function note_removal(id, own)
  local key = declared_key(own)
  local entry = how ~= 'prune' and call('HGET', key, id)
  if entry then
    entry = cmsgpack.unpack(entry)
    entry.state = 'removed'
    call('HSET', key, id, cmsgpack.pack(entry))
  else
    call('HDEL', key, id)
  end
end

local accounts, behind = account ~= '' and cmsgpack.unpack(account) or {}, {}

local function cancel(id)
  local key = job_key(id)
  local job = call(
    'HMGET', key, 'record', 'queue', 'tags', 'fence', 'owner', 'state', 'periodic', 'next_ms', 'paused_ms', 'paused_from',
    'fire_ms', 'parked', 'application'
  )
  if how == 'prune' and (not job[1] or job[13] ~= application) then
    call('HDEL', declared_key(application), id) -- it is over, or belongs to another application by now
    return false
  elseif not job[1] then
    return false
  end
  local queue = job[2] or nil
  local state = {
    fence = job[4] or nil, state = job[6] or nil, periodic = job[7] or nil, next_ms = job[8] or nil,
    paused_ms = job[9] or nil, paused_from = job[10] or nil, fire_ms = job[11] or nil,
  }
  local score = due_at(id, queue, job[12])
  if leaves_behind(state) then
    local known = accounts[id]
    if not known or (known[1] and has_moved(state, score, known[1])) then
      behind[#behind + 1] = id
      return false
    end
    drop(id, known[2])
  end
  local fire = drop_once(state, score)
  if job[13] then
    note_removal(id, job[13])
  end
  call('ZREM', due_key(queue), id)
  unpark(id, key, job[12])
  if job[6] == 'dead' then
    call('ZREM', dead, id)
    uncount_dead(key)
  end
  end_runs(id, queue)
  -- A run that is still active has its outcome later: waits for it continue.
  local runs = job[4] or call('EXISTS', prefix .. 'live:' .. id) == 1
  local reason = how == 'cancel' and 'cancelled' or how == 'prune' and 'pruned' or 'removed'
  -- Another attempt of a one-shot job's only run, or that run if it is dead, ends with the job.
  local run_id = not job[7] and job[11] and not job[4] and id or nil
  event(
    how == 'cancel' and 'cancelled' or 'removed', id, reason, fire, fire, fire and 1, nil, nil, run_id,
    runs or job[6] == 'dead'
  )
  call('HDEL', key, 'next_ms', 'after_ms', 'plan_fence', 'state')
  if job[4] then
    -- The only run of a one-shot job goes on: its worker ends the job when it settles.
    call('HSET', key, 'cancel', 1)
    if how == 'cancel' then
      tell(job[5], 'cancel ' .. id)
    else
      call('HSET', key, 'leave', 1)
    end
    untag(id, job[3])
    call('HDEL', key, 'tags')
  elseif runs then
    untag(id, job[3])
    call('HDEL', key, 'tags')
  else
    end_job(id, job[3])
  end
  return true
end

local list, more = nil, 0
if ids ~= '' then
  list = cmsgpack.unpack(ids)
else
  list = call('SRANDMEMBER', prefix .. 'tag:' .. tag, 1000)
  if #list == 1000 then
    more = 1
  end
end
local ended = {}
for _, id in ipairs(list) do
  if cancel(id) then
    ended[#ended + 1] = id
  elseif tag ~= '' and behind[#behind] ~= id then
    call('SREM', prefix .. 'tag:' .. tag, id)
  end
end
publish(client, {})
close_clock()
return answer({ 'OK', now_us, ended, more, behind })
