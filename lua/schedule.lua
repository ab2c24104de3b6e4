-- schedule: add, replace or keep a batch of jobs, and wake one worker if needed.
-- Flags   none
-- State   (none) -> scheduled | paused
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         workers     ZSET   worker id -> heartbeat, ms
-- ARGV    prefix      str    hash tag of the shard
--         request     str    <client>:<number>; a resent request has the same
--         confirmed   int    this client has confirmed the replies to all its requests below this number
--         assumed_ms  int    the instant that first fire times were computed for; 0 = none were
--         owner       str    process that alone can run the jobs of its local queue; '' = none
--         jobs        bytes  msgpack list of rows
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job declared run due parked tag live waiting idle wake requests ended batches index outcome answers quarantine
-- Reply   OK now_us statuses | CONFLICT ids | BEHIND ids | CLOCK now_us; BEHIND: replacing these would drop fires that only
--         the client can count: nothing was stored, call again with their account
--         | LATE now_us (include/once)
-- Again   the first reply, kept until it is confirmed
-- Cost    O(jobs * log N)
--
-- A row: 1 id, 2 mode, 3 queue, 4 at_ms or false, 5 delay_ms or false, 6 record, 7 further fields (flat) or false,
--        8 tags or false, 9 account {cursor or false, spans} or nothing (include/dropped),
--        10 of declare: {application, entry of `declared`, the entry that was read or false}.
--        Neither at_ms nor delay_ms: added paused.
-- Modes: new (a generated id, cannot exist), add (refuse what exists), keep, replace,
--        declare (if there is none, or a dead one, and its entry in `declared` is what was read).
-- Statuses: one of added kept replaced changed (declare: not what was read) for each job, in order; an empty list if all
--           were added.
--- @include clock
--- @include event
--- @include once
--- @include wake
--- @include job
--- @include dropped
--- @include buried
--- @include unpark
if first_reply then
  return first_reply
end
local rows = cmsgpack.unpack(jobs)
local assumed = tonumber(assumed_ms)
if assumed > 0 and math.abs(now_ms - assumed) > 2000 then
  -- The client's estimate of Redis' time is stale (time travel, a long pause), and so are its fire times.
  return { 'CLOCK', now_us }
end

-- The fields of the old job that are needed to account for its fires.
local function old_job(id)
  local old = call(
    'HMGET', job_key(id), 'periodic', 'state', 'next_ms', 'paused_ms', 'paused_from', 'queue', 'fence', 'fire_ms', 'parked'
  )
  local job = {
    periodic = old[1] or nil, state = old[2] or nil, next_ms = old[3] or nil, paused_ms = old[4] or nil,
    paused_from = old[5] or nil, fence = old[7] or nil, fire_ms = old[8] or nil,
  }
  return job, due_at(id, old[6] or nil, old[9])
end

-- Raises if a key has a wrong type, before anything is changed.
local seen = {}
local function see(command, key, ...)
  seen[key] = seen[key] or call(command, key, ...) + 1
end
for _, row in ipairs(rows) do
  see('ZCARD', due_key(row[3]))
  if row[2] ~= 'new' then
    see('HEXISTS', job_key(row[1]), 'record')
  end
  for _, tag in ipairs(row[8] or {}) do
    see('SCARD', prefix .. 'tag:' .. tag)
  end
end

local conflicts, behind = {}, {}
for _, row in ipairs(rows) do
  if row[2] == 'replace' then
    local job, score = old_job(row[1])
    if leaves_behind(job) and not (row[9] and not (row[9][1] and has_moved(job, score, row[9][1]))) then
      behind[#behind + 1] = row[1]
    end
  end
  local old = row[2] == 'add' and call('HMGET', job_key(row[1]), 'record', 'state')
  if old and old[1] and old[2] ~= 'dead' then
    conflicts[#conflicts + 1] = row[1]
  end
end
if #conflicts > 0 then
  return answer({ 'CONFLICT', conflicts })
end

if #behind > 0 then
  return answer({ 'BEHIND', behind })
end

local statuses, plain = {}, true
local due_rows, earliest, added = {}, {}, {}

-- Make room for a new definition. Active runs continue, and their tokens stay valid.
local function replace(id, key, account)
  local old = call('HMGET', key, 'queue', 'tags', 'fence', 'state', 'parked', 'needs')
  local job, score = old_job(id)
  local fire = drop_once(job, score)
  if fire then
    event('dropped', id, 'replaced', fire, fire, 1, nil, nil, job.fire_ms and id or nil)
  end
  drop(id, account and account[2])
  call('ZREM', due_key(old[1] or nil), id)
  unpark(id, key, old[5])
  if old[6] then
    runs_back_to_due(id, old[1] or nil)
  end
  untag(id, old[2])
  if old[4] == 'dead' then
    call('ZREM', prefix .. 'dead', id)
    uncount_dead(key)
  end
  local kept = {}
  for _, name in ipairs({
    'fence', 'owner', 'fire_ms', 'attempt', 'recoveries', 'lost', 'excused', 'cancel', 'leave', 'has_runs', 'version',
    'wish',
  }) do
    local value = (old[3] or name == 'version' or name == 'has_runs' or name == 'wish') and call('HGET', key, name)
    if value then
      kept[#kept + 1] = name
      kept[#kept + 1] = value
    end
  end
  call('DEL', key)
  if #kept > 0 then
    call('HSET', key, unpack(kept))
  end
  next_version(key) -- always: whatever was read or computed from the old definition is invalid now
  return old[3]
end

local function store(row)
  local id, mode, queue, key = row[1], row[2], row[3], job_key(row[1])
  local at_ms = row[4] or (row[5] and now_ms + row[5])
  local status, running = 'added', false
  if mode ~= 'new' then
    local old = call('HMGET', key, 'record', 'state')
    local entry = row[10]
    if entry and ((old[1] and old[2] ~= 'dead') or (call('HGET', declared_key(entry[1]), id) or false) ~= entry[3]) then
      return 'changed'
    end
    if old[1] then
      -- A dead job is over: it does not reserve its id.
      if old[2] ~= 'dead' and mode == 'keep' then
        return 'kept'
      end
      running = replace(id, key, row[9])
      status = 'replaced'
    end
  end
  local fields = { 'record', row[6] }
  if queue ~= 'default' then
    fields[3], fields[4] = 'queue', queue
  end
  if row[7] then
    for _, value in ipairs(row[7]) do
      fields[#fields + 1] = value
    end
  end
  if row[8] then
    fields[#fields + 1] = 'tags'
    fields[#fields + 1] = cmsgpack.pack(row[8])
    for _, name in ipairs(row[8]) do
      call('SADD', prefix .. 'tag:' .. name, id)
    end
  end
  if running and at_ms then
    fields[#fields + 1] = 'next_ms' -- the job has a future beyond its active run
    fields[#fields + 1] = at_ms
  end
  if mode ~= 'new' and call('EXISTS', prefix .. 'live:' .. id, prefix .. 'waiting:' .. id) > 0 then
    fields[#fields + 1] = 'has_runs'
    fields[#fields + 1] = 1
    fields[#fields + 1] = 'beside' -- runs of an earlier job with this id are active: they count for max_instances
    fields[#fields + 1] = 1
  end
  if not at_ms then
    fields[#fields + 1] = 'state'
    fields[#fields + 1] = 'paused'
    fields[#fields + 1] = 'paused_from'
    fields[#fields + 1] = now_ms
  end
  call('HSET', key, unpack(fields))
  if row[10] then
    call('HSET', declared_key(row[10][1]), id, row[10][2])
  end
  if at_ms then
    local rows_of_queue = due_rows[queue] or {}
    rows_of_queue[#rows_of_queue + 1] = at_ms
    rows_of_queue[#rows_of_queue + 1] = id
    due_rows[queue] = rows_of_queue
    earliest[queue] = math.min(earliest[queue] or math.huge, at_ms)
  end
  return status
end

if owner ~= '' then
  call('ZADD', workers, 'NX', now_ms, owner) -- first: a user who may not gets an error before anything is stored
end
for i, row in ipairs(rows) do
  statuses[i] = store(row)
  if statuses[i] == 'added' then
    added[#added + 1] = row[1]
  else
    plain = false
    if statuses[i] == 'replaced' then
      event('replaced', row[1])
    end
  end
end
for queue, due_list in pairs(due_rows) do
  in_chunks('ZADD', due_key(queue), due_list)
  wake(queue, earliest[queue])
end
publish(client, #added > 0 and { 'scheduled', cmsgpack.pack(added) } or {})
close_clock()
return answer({ 'OK', now_us, plain and {} or statuses })
