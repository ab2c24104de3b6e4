-- declare: a process reports the jobs that its code declares, and receives the generation of these declarations.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         process     str    id of the process
--         how         str    start | alive | leave | look
--         owners      bytes  msgpack list of rows
--         gone_ms     int    a process without a sign of life for this long is gone
-- Derives generations declarers applications job
-- Reply   OK now_us rows; for each owner: owner, generation (0 = unknown: send start), others; for each other generation
--         with a process that was seen lately: number, seen_ms, 1 if a process of it is running, its ids
-- Again   changes nothing further
-- Cost    O(processes that declare jobs of these owners)
--
-- A row: 1 owner, 2 digest of all its declarations in this process, 3 their ids and aliases (for start; else false)
-- A generation is a distinct set of declarations. They are numbered in the order in which they were first seen.
--- @include clock
local KEPT = 100
local gone_at = now_ms - tonumber(gone_ms)

-- Number of each generation that was seen lately -> {when, whether a process of it is running}, without this process.
local function seen_lately(owner)
  local key, seen = prefix .. 'declarers:' .. owner, {}
  local members = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local number, who = string.match(members[i], '^(%d+):?(.*)$')
    local at = tonumber(members[i + 1])
    if at <= gone_at then
      if how ~= 'look' then
        call('ZREM', key, members[i])
      end
    elseif number and who ~= process then
      local one = seen[number] or { 0, 0 }
      seen[number] = { math.max(one[1], at), who ~= '' and 1 or one[2] }
    end
  end
  return seen
end

local function number_of(owner, digest, ids)
  local key = prefix .. 'generations:' .. owner
  local number = call('HGET', key, digest)
  if number or not ids then
    return number or '0'
  end
  number = string.format('%.0f', call('HINCRBY', key, 'last', 1))
  call('HSET', key, digest, number, 'ids ' .. number, cmsgpack.pack({ digest, ids }))
  local oldest = 'ids ' .. string.format('%.0f', tonumber(number) - KEPT)
  local old = call('HGET', key, oldest)
  if old then
    call('HDEL', key, oldest, cmsgpack.unpack(old)[1])
  end
  return number
end

local replies = {}
for i, row in ipairs(cmsgpack.unpack(owners)) do
  local owner, declarers = row[1], prefix .. 'declarers:' .. row[1]
  local number = how == 'look' and '0' or number_of(owner, row[2], how == 'start' and row[3])
  local member = number .. ':' .. process
  if how == 'leave' and number ~= '0' then
    call('ZREM', declarers, member)
    call('ZADD', declarers, now_ms, number) -- an older one that starts now does not know whether this comes back
  elseif how ~= 'look' and number ~= '0' then
    call('ZADD', declarers, now_ms, member)
    if how == 'start' then
      call('SADD', prefix .. 'applications', owner)
    end
  end
  local others = {}
  for other, one in pairs(seen_lately(owner)) do
    if other ~= number then
      local kept = how ~= 'alive' and call('HGET', prefix .. 'generations:' .. owner, 'ids ' .. other)
      others[#others + 1] = { tonumber(other), one[1], one[2], kept and cmsgpack.unpack(kept)[2] or {} }
    end
  end
  replies[i] = { owner, tonumber(number), others }
end
close_clock()
return { 'OK', now_us, replies }
