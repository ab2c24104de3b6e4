-- park: a run that no worker may start yet, since it needs what the one that claimed it does not have.
-- Needs   job, wake, mail, unpark, fleet, call
-- Gives   park(), park_at()
-- State   running | scheduled -> scheduled
-- Why     In `due` it would be claimed again and again by those who cannot run it, or wait for a guessed delay. It
--         lies in `parked:<place>` instead, which only those poll who have what it needs; each member pushes a token
--         that wakes one of them. A place is what is needed, and the queue: `task:<name> <queue>`. `parking` lists the
--         places: a worker reads it with its heartbeat, and hears of a new one by mail.
local PLACES_MAX, PLACE_BYTES, TOLD_MAX = 1000, 1024, 1000

-- The members of a place start where one of its workers is free.
local function park_at(member, key, place, at_ms)
  call('ZADD', parked_key(place), at_ms, member)
  call('HSET', key, 'parked', place)
  push_token('parked:' .. place)
end

local function tell_of(place, queue)
  local owner = string.match(queue, '^local:(.+)$')
  for _, id in ipairs(owner and { owner } or call('ZRANGE', prefix .. 'workers', 0, TOLD_MAX - 1, 'REV')) do
    if call('HEXISTS', prefix .. 'worker:' .. id, 'parks') == 1 then
      tell(id, 'parked ' .. place)
    end
  end
end

-- Park what was due at `at_ms` until a worker of this queue has `need`. Says whether it did: see only_older_have.
local function park(member, key, need, queue, at_ms)
  local place = place_of(need, queue)
  if #place > PLACE_BYTES then
    return false
  end
  if call('ZADD', parking, now_ms, place) == 1 then
    if call('ZCARD', parking) > PLACES_MAX or only_older_have(need, queue) then
      call('ZREM', parking, place)
      return false
    end
    tell_of(place, queue)
  end
  park_at(member, key, place, at_ms)
  -- A later run of the job needs the same: see send_on.
  local own = job_of(member)
  if not own or call('EXISTS', job_key(own)) == 1 then
    call('HSET', own and job_key(own) or key, 'needs', need)
  end
  return true
end
