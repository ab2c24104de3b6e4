-- outcome: how runs ended; for those that have not ended, a request to be notified when they do.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         ids         bytes  msgpack list of ids of jobs or runs
--         waiter      str    the process that waits for them; '' = none
--         record_max  int    bytes; for a longer result, its length is returned instead
-- Derives job run live waiting ended outcome result
-- Reply   OK now_us from_ms answers seen; from_ms = the instant from which outcomes are kept, 0 = none was kept yet,
--         -1 = this user may not read them
-- Again   the same, for runs that have not ended in the meantime
-- Cost    O(ids)
--
-- An answer: state, outcome (include/outcomes) or false, result or false, and for a dead run: reason, error, attempt,
--            fire_ms, record, else false. State: open (it has not ended), ended, dead, unknown. `seen`: the number of ids
--            that were read; call again for the rest.
--- @include clock
--- @include job
--- @include readable
local WAITERS = 100
local OUTCOME_HASHES = 32
local newest = whole(call('HGET', clock, 'outcomes'), 0, 1099511627776) or 0
local WISH_BYTES = 4096

local is_denied = false

-- A user of an older recipe may not read outcomes: then only the events say how a run ended.
local function read(command, ...)
  local found = redis.pcall(command, ...)
  is_denied = is_denied or (type(found) == 'table' and not string.find(found.err, 'WRONGTYPE', 1, true))
  return type(found) == 'string' and found ~= '' and found or false
end

local function lookup(id)
  for number = newest, math.max(1, newest - OUTCOME_HASHES + 1), -1 do
    local packed = not is_denied and read('HGET', prefix .. 'ended:' .. string.format('%.0f', number), id)
    if packed then
      return packed
    end
  end
  return read('GETRANGE', prefix .. 'outcome:' .. id, 0, record_max)
end

local function wish(job_id)
  if waiter == '' or is_denied or call('EXISTS', job_key(job_id)) == 0 then
    return
  end
  local waiters = call('HGET', job_key(job_id), 'wish') or ''
  if #waiters > WISH_BYTES then
    waiters = ''
  end
  local known, number = false, 0
  for name in string.gmatch(waiters, '%S+') do
    known, number = known or name == waiter, number + 1
  end
  if not known and number < WAITERS then
    call('HSET', job_key(job_id), 'wish', waiters .. waiter .. ' ')
  end
end

-- The run that an outcome is of: that of a periodic job is its last run's. A plain run's is text, and its own.
local function run_of(id, packed)
  local fine, row = pcall(cmsgpack.unpack, packed or '')
  return fine and type(row) == 'table' and type(row[10]) == 'string' and row[10] or id
end

local function answer_of(id)
  local own = job_of(id)
  local key = own and run_key(id) or job_key(id)
  local h = call('HMGET', key, 'state', 'record', 'job', 'reason', 'error', 'attempt', 'fire_ms')
  local is_dead = h[1] == 'dead'
  local is_there = not is_dead and (own and h[3] or h[2])
  if not is_there and not is_dead and not own then
    is_there = call('EXISTS', prefix .. 'live:' .. id, prefix .. 'waiting:' .. id) > 0 -- runs that outlive their job
  end
  local packed = lookup(id)
  if is_there then
    wish(own or id)
    return { 'open', packed, false, false }
  end
  if not packed and not is_dead then
    return { 'unknown', false, false, false }
  end
  local result = redis.pcall('GETRANGE', prefix .. 'result:' .. run_of(id, packed), 0, record_max)
  local cause = is_dead and { h[4], h[5], h[6], h[7], h[2] and readable(h[2]) } or false
  return { is_dead and 'dead' or 'ended', packed, type(result) == 'string' and result ~= '' and readable(result), cause }
end

local answers, seen = {}, 0
for _, id in ipairs(cmsgpack.unpack(ids)) do
  if is_enough() then
    break
  end
  seen = seen + 1
  answers[seen] = answer_of(id)
end
return { 'OK', now_us, is_denied and -1 or whole(call('HGET', clock, 'outcomes_from')) or 0, answers, seen }
