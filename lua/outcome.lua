-- outcome: how runs ended; for those that have not ended, a request to be notified when they do.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         ids         bytes  msgpack list of ids of jobs or runs
--         marks       bytes  msgpack flat list: for each its part of the index, and its mark (redsched/store/marks.py)
--         waiter      str    the process that waits for them; '' = none
--         record_max  int    bytes; for a longer result, its length is returned instead
-- Derives job run live waiting ended batches index outcome result
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
--- @include found
local WAITERS = 100
local WISH_BYTES = 4096

local function wish(job_id)
  if waiter == '' or is_denied() or call('EXISTS', job_key(job_id)) == 0 then
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

local function answer_of(id, part, mark)
  local own = job_of(id)
  local key = own and run_key(id) or job_key(id)
  local h = call('HMGET', key, 'state', 'record', 'job', 'reason', 'error', 'attempt', 'fire_ms')
  local is_dead = h[1] == 'dead'
  local is_there = not is_dead and (own and h[3] or h[2])
  if not is_there and not is_dead and not own then
    is_there = call('EXISTS', prefix .. 'live:' .. id, prefix .. 'waiting:' .. id) > 0 -- runs that outlive their job
  end
  -- A run that is waited for is not plain. So where it has not ended, an earlier one of its id is not looked for.
  local is_plain = not own and not is_dead and not (is_there and waiter ~= '')
  local packed = outcome_of(id, part, is_plain and mark)
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

local answers, seen, marked = {}, 0, cmsgpack.unpack(marks)
for i, id in ipairs(cmsgpack.unpack(ids)) do
  if is_enough() or is_much() then
    break
  end
  seen = seen + 1
  answers[seen] = answer_of(id, marked[2 * i - 1], marked[2 * i])
end
return { 'OK', now_us, is_denied() and -1 or whole(call('HGET', clock, 'outcomes_from')) or 0, answers, seen }
