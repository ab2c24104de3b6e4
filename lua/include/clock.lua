-- clock: the scheduler's instant: Redis' TIME plus the travel offset, never going back.
-- Needs   clock, prefix
-- Gives   call, now_us, now_ms, whole(), next_fence(), close_clock(); events_bytes: see trim
--         server_us: TIME alone
--         first_fence, last_fence: the next token at the start of the script, and the one before
-- Why     A failover to a replica whose clock is behind must not make a fire due twice, so the highest instant
--         that any script has seen is kept and is the floor of the next one. Tokens start from the microseconds
--         of that instant: even where a failover loses the stored counter, they go on growing.
--         What is stored counts only where it can be true: whole numbers, an instant and a token that are not further
--         ahead of Redis' TIME than a day. A writer who stores more moves no job, and gets no token twice.
local call = redis.call

-- While a cluster moves a slot, only what is still here can be touched. No key has this name, so Redis reports the move here,
-- before anything is changed: a script that breaks off half way would leave half of a transition.
do
  local moving = redis.pcall('EXISTS', prefix .. 'job:')
  if type(moving) == 'table' and string.find(moving.err, 'non local key', 1, true) then
    return redis.error_reply('TRYAGAIN the slot of this shard is being moved')
  end
end

-- A stored number, if it is a whole one that Lua and Redis hold exactly and that lies in the range; else nil.
local function whole(text, least, most)
  if type(text) ~= 'string' or #text > 16 or not string.find(text, '^%-?%d+$') then
    return nil
  end
  local number = tonumber(text)
  return number >= (least or 0) and number <= (most or 9007199254740991) and number or nil
end

local server_us, now_us, last_fence, events_bytes
do
  local AHEAD_US = 86400000000
  local LONGEST_OFFSET_MS = 6300000000000 -- two centuries: now_us stays below 2^53
  local time = call('TIME')
  local saved = call('HMGET', clock, 'now_us', 'offset_ms', 'fence', 'events_bytes')
  server_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  now_us = math.max(1, server_us + (whole(saved[2], -LONGEST_OFFSET_MS, LONGEST_OFFSET_MS) or 0) * 1000)
  local latest_us = now_us + AHEAD_US
  now_us = math.max(now_us, whole(saved[1], 0, latest_us) or 0)
  last_fence = whole(saved[3], 0, latest_us) or 0
  events_bytes = whole(saved[4]) or 0
end
local now_ms = math.floor(now_us / 1000)
local first_fence = math.max(last_fence + 1, now_us)
local fence_used = false

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
