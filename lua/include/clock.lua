-- clock: the scheduler's instant: Redis' TIME plus the travel offset, never going back.
-- Needs   clock, prefix
-- Gives   now_us, now_ms, next_fence(), events_bytes (see event), close_clock()
-- Why     A failover to a replica whose clock is behind must not make a fire due twice, so the highest instant
--         that any script has seen is kept and is the floor of the next one. Tokens start from the microseconds
--         of that instant: even where a failover loses the stored counter, they go on growing.
local call = redis.call

-- While a cluster moves a slot, only what is still here can be touched. No key has this name, so here that is told,
-- before anything is changed: a script that breaks off half way would leave half of a transition.
local moving = redis.pcall('EXISTS', prefix .. 'job:')
if type(moving) == 'table' and string.find(moving.err, 'non local key', 1, true) then
  return redis.error_reply('TRYAGAIN the slot of this shard is being moved')
end

local time = call('TIME')
local saved = call('HMGET', clock, 'now_us', 'offset_ms', 'fence', 'events_bytes')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2]) + (tonumber(saved[2]) or 0) * 1000
if saved[1] and tonumber(saved[1]) > now_us then
  now_us = tonumber(saved[1])
end
local now_ms = math.floor(now_us / 1000)
local last_fence = tonumber(saved[3]) or 0
local first_fence = math.max(last_fence + 1, now_us)
local fence_used = false
local events_bytes = tonumber(saved[4] or nil) or 0

-- The next fencing token: greater than every one before it on this shard.
local function next_fence()
  last_fence = math.max(last_fence + 1, now_us)
  fence_used = true
  return last_fence
end

-- Write the clock back: once, at the end of each script that changes anything.
local function close_clock()
  if fence_used then
    call('HSET', clock, 'now_us', now_us, 'events_bytes', events_bytes, 'fence', last_fence)
  else
    call('HSET', clock, 'now_us', now_us, 'events_bytes', events_bytes)
  end
end
