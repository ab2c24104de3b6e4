-- places: where something is parked, for a worker's heartbeat; and the way back where no worker looks at it.
-- Needs   job, unpark, fleet, wake
-- Gives   list_places(), free_place(), free_local(); FREED_MAX, LISTED_MAX: how many at once
-- State   scheduled -> scheduled
local FORGET_MS, FREED_MAX, LISTED_MAX = 600000, 1000, 1000

-- Everything of a place is due again. Returns how many; FREED_MAX: there may be more.
local function free_place(place)
  local queue = string.match(place, ' ([^ ]*)$') or 'default'
  local flat = call('ZRANGE', parked_key(place), 0, FREED_MAX - 1, 'WITHSCORES')
  for i = 1, #flat, 2 do
    local own = job_of(flat[i])
    call('ZADD', due_key(queue), flat[i + 1], flat[i])
    call('ZREM', parked_key(place), flat[i])
    redis.pcall('HDEL', own and run_key(flat[i]) or job_key(flat[i]), 'parked')
  end
  if #flat > 0 then
    wake(queue, now_ms)
  end
  return #flat / 2
end

-- What only a process could run that is gone: back into its queue, where `reap` looks.
local function free_local(queue)
  for _, place in ipairs(call('ZRANGE', parking, 0, LISTED_MAX - 1)) do
    if string.sub(place, -#queue - 1) == ' ' .. queue then
      free_place(place)
    end
  end
end

-- All places. One that has been empty for long is forgotten: workers look at it in vain.
local function list_places()
  local flat = call('ZRANGE', parking, 0, LISTED_MAX - 1, 'WITHSCORES')
  if #flat == 0 then
    return {}
  end
  local places, size = {}, call('ZCARD', workers)
  -- It takes a look at each worker: of a large fleet one does it in each span between heartbeats, as it were by lot.
  local mine = size <= 3 or math.floor(now_us) % size == 0
  for i = 1, #flat, 2 do
    local place, is_empty = flat[i], call('EXISTS', parked_key(flat[i])) == 0
    local need, queue = string.match(place, '^(.*) ([^ ]*)$')
    if is_empty and tonumber(flat[i + 1]) < now_ms - FORGET_MS then
      call('ZREM', parking, place)
    elseif not is_empty and mine and need and only_older_have(need, queue) then
      if free_place(place) < FREED_MAX then
        call('ZREM', parking, place) -- else it would be parked again
      end
    else
      places[#places + 1] = place
    end
  end
  return places
end
