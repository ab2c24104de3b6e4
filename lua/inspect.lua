-- inspect: jobs as they are at one instant. Reads only.
-- Flags   no-writes
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         ids         bytes  msgpack list of job ids or run ids
--         queue       str    only jobs of this queue; empty = of any
--         state       str    only jobs in this state; empty = in any
--         undue       int    1 = only jobs that are not in any due set
--         record_max  int    bytes; for a longer record, its length is returned instead
-- Derives job run due parked live waiting
-- Reply   OK now_us jobs seen; for each id that exists and matches: id, fields (flat), due or false, running, waiting;
--         seen = the number of ids that were read: call again for the rest
-- Again   reads again
-- Cost    O(ids)
--- @include clock
--- @include job
--- @include unpark
--- @include readable

-- What is of another type than redsched keeps there hides one job's numbers, not the other jobs.
local function score_of(key, member)
  local score = redis.pcall('ZSCORE', key, member)
  return type(score) == 'string' and score or false
end
local function count_of(...)
  local count = redis.pcall(...)
  return type(count) == 'number' and count or 0
end

local function is_wanted(id, key)
  if queue == '' and state == '' and undue ~= '1' then
    return true
  end
  local named = redis.pcall('HMGET', key, 'queue', 'state', 'fence')
  local its_queue, its_state, fence = named[1] or 'default', named[2], named[3]
  if queue ~= '' and its_queue ~= queue then
    return false
  end
  if state ~= '' then
    if its_state ~= 'paused' and its_state ~= 'dead' then
      local runs = fence or count_of('ZCOUNT', prefix .. 'live:' .. id, '(' .. string.format('%.0f', now_ms), '+inf') > 0
      its_state = runs and 'running' or 'scheduled'
    end
    if its_state ~= state then
      return false
    end
  end
  return undue ~= '1' or not score_of(due_key(named[1] or nil), id)
end
local found, seen = {}, 0
for _, id in ipairs(cmsgpack.unpack(ids)) do
  if is_enough() then
    break
  end
  seen = seen + 1
  local own = job_of(id)
  local key = own and run_key(id) or job_key(id)
  local fields = is_wanted(id, key) and redis.pcall('HGETALL', key) or {}
  if #fields > 0 then
    local its_queue, parked = nil, ''
    for i = 1, #fields, 2 do
      if fields[i] == 'queue' and #fields[i + 1] < 10000 then
        its_queue = fields[i + 1]
      elseif fields[i] == 'parked' and #fields[i + 1] < 10000 then
        parked = fields[i + 1]
      end
    end
    local whole = readable(table.concat(fields))
    if type(whole) == 'number' then
      fields = { 'record', whole }
    end
    found[#found + 1] = {
      id, fields, score_of(due_key(its_queue), id) or (parked ~= '' and score_of(parked_key(parked), id)),
      count_of('ZCOUNT', prefix .. 'live:' .. id, '(' .. string.format('%.0f', now_ms), '+inf'),
      count_of('SCARD', prefix .. 'waiting:' .. id),
    }
  end
end
return { 'OK', now_us, found, seen }
