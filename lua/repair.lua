-- repair: set the clock back to the TIME of Redis, and with it the expiries and heartbeats that were computed from it.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
--         workers     ZSET   worker id -> heartbeat, ms
--         leases      ZSET   run id -> lease expiry, ms
--         dead        ZSET   run id -> when, ms
-- ARGV    prefix      str    hash tag of the shard
--         queues      bytes  msgpack list of the queues that have due jobs
-- Derives mail live job run due declarers applications
-- Reply   OK now_us ahead_ms moved; ahead_ms = how far the clock was ahead of TIME (negative: behind), moved = how many
--         instants were moved
-- Again   finds nothing to move
-- Cost    O(workers + leases + due)
--- @include clock
--- @include mail
--- @include job
local AHEAD_US, LONGEST_LEASE_MS = 86400000000, 86400000
local server_ms, moved = math.floor(server_us / 1000), 0
local ahead_ms = now_ms - server_ms

-- The members whose instant is later than the true one: a flat list.
local function later(key)
  return call('ZRANGE', key, '(' .. string.format('%.0f', server_ms), '+inf', 'BYSCORE', 'WITHSCORES')
end

local function move(key, member, at_ms)
  call('ZADD', key, 'XX', at_ms, member)
  moved = moved + 1
end

-- Each by itself: a key of another type is put aside elsewhere, and keeps no other from being moved.
local function each(key, act)
  pcall(function()
    local members = later(key)
    for i = 1, #members, 2 do
      pcall(act, members[i], tonumber(members[i + 1]))
    end
  end)
end

if ahead_ms ~= 0 then
  each(workers, function(worker)
    move(workers, worker, server_ms)
    tell(worker, 'travel')
  end)
  each(leases, function(run_id, at_ms)
    local until_ms = server_ms + math.min(math.max(0, at_ms - now_ms), LONGEST_LEASE_MS)
    local own = job_of(run_id)
    move(leases, run_id, until_ms)
    if own then
      call('ZADD', prefix .. 'live:' .. own, 'XX', until_ms, run_id)
    end
  end)
  each(dead, function(run_id)
    move(dead, run_id, server_ms)
  end)
  for _, owner in ipairs(call('SMEMBERS', prefix .. 'applications')) do
    each(prefix .. 'declarers:' .. owner, function(member)
      move(prefix .. 'declarers:' .. owner, member, server_ms)
    end)
  end
  -- Of what is due, only further attempts are known to be computed from the clock: the client moves periodic jobs, and an
  -- instant that an application chose stays.
  for _, queue in ipairs(cmsgpack.unpack(queues)) do
    each(due_key(queue), function(member, at_ms)
      if job_of(member) or call('HEXISTS', job_key(member), 'attempt') == 1 then
        move(due_key(queue), member, server_ms + math.max(0, at_ms - now_ms))
      end
    end)
  end
end

local saved = call('HMGET', clock, 'fence', 'outcomes_ms', 'outcomes_from')
if saved[1] and not whole(saved[1], 0, server_us + AHEAD_US) then
  call('HDEL', clock, 'fence') -- tokens begin at the true instant again
end
for i, name in ipairs({ 'outcomes_ms', 'outcomes_from' }) do
  if saved[i + 1] and (whole(saved[i + 1]) or server_ms + 1) > server_ms then
    call('HSET', clock, name, server_ms)
  end
end
call('HDEL', clock, 'offset_ms')
now_us = server_us
close_clock()
return { 'OK', now_us, ahead_ms, moved }
