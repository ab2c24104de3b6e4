-- take: what is due in a queue, or parked in a place, is claimed one by one.
-- Needs   job, claim, unpark, readable, wake, spoil; places (of poll)
-- Gives   claim(queue, limit), claim_parked(queue, limit) -> how many, and 1 where something stays
-- State   scheduled -> running

-- Claim these members, a flat list with the instants at which they were due. Returns how many; the rest did not fit
-- into the reply. Those of `remove` are no more due.
local function claim_all(members, queue, due, remove, is_here)
  local at = 1
  local function claim_on()
    while at < #members and not is_enough() do
      if not is_here or is_here(members[at]) then
        claim_member(members[at], members[at + 1], queue, due, remove)
      end
      at = at + 2
    end
    return true
  end
  repeat
    local fine, problem = pcall(claim_on)
    if not fine then
      spoil(members[at], problem)
      remove[#remove + 1] = members[at]
      at = at + 2
    end
  until fine
  return (at - 1) / 2
end

local function claim(queue, limit)
  local due, remove = due_key(queue), {}
  local members = call('ZRANGE', due, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
  local count = claim_all(members, queue, due, remove)
  in_chunks('ZREM', due, remove)
  return count
end

local places_of = places ~= '' and cmsgpack.unpack(places) or {}
for _, list in pairs(places_of) do
  for _, place in ipairs(list) do
    served[place] = true
  end
end

local function claim_place(place, queue, limit)
  local key, due = parked_key(place), due_key(queue)
  local members = call('ZRANGE', key, 0, limit - 1, 'WITHSCORES')
  -- What a process of a version that does not park removed or rescheduled is still listed here: it is not to run.
  local function is_here(member)
    local hash = job_of(member) and run_key(member) or job_key(member)
    return call('HGET', hash, 'parked') == place and not call('ZSCORE', due, member)
  end
  local count = claim_all(members, queue, due, {}, is_here)
  for i = 1, count do
    call('ZREM', key, members[2 * i - 1])
  end
  return count
end

-- From all places of a queue that this worker serves. Runs that do not fit are left to another worker.
local function claim_parked(queue, limit)
  local count, more = 0, 0
  for _, place in ipairs(places_of[queue] or {}) do
    if count < limit then
      local fine, claimed = pcall(claim_place, place, queue, limit - count)
      if fine then
        count = count + claimed
      else
        call('DEL', parked_key(place)) -- of another type
      end
    end
    if call('EXISTS', parked_key(place)) == 1 then
      more = 1
      push_token('parked:' .. place)
    end
  end
  return count, more
end
