-- declare: a process reports the jobs that its code declares, and receives the generation of these declarations.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         process     str    id of the process
--         how         str    start | alive | leave | look
--         owners      bytes  msgpack list of rows
--         worker_ttl_ms int    a process without a sign of life for this long is gone
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
local HIGHEST = 900000000000000
local gone_at = now_ms - tonumber(worker_ttl_ms)
local ahead_ms = now_ms + 86400000 -- no sign of life is of the future

-- A stored generation's digest and ids; nothing if another program wrote something else.
local function kept_generation(packed)
  local fine, kept = pcall(cmsgpack.unpack, packed or '')
  local ids = {}
  if not fine or type(kept) ~= 'table' or type(kept[1]) ~= 'string' or type(kept[2]) ~= 'table' then
    return nil, ids
  end
  for _, id in ipairs(kept[2]) do
    if type(id) == 'string' then
      ids[#ids + 1] = id
    end
  end
  return kept[1], ids
end

-- Number of each generation that was seen lately -> {when, whether a process of it is running}, without this process.
local function seen_lately(owner)
  local key, seen = prefix .. 'declarers:' .. owner, {}
  local members = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local number, who = string.match(members[i], '^(%d+):?(.*)$')
    local at = tonumber(members[i + 1])
    if number and not whole(number, 1, HIGHEST) then
      number = nil
    end
    if at <= gone_at or at > ahead_ms or at ~= at then
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
  local saved = call('HMGET', key, digest, 'last')
  local number = whole(saved[1], 1, HIGHEST) and saved[1]
  if number or not ids then
    return number or '0'
  end
  if saved[2] and not whole(saved[2], 0, HIGHEST - 1) then
    call('HSET', key, 'last', now_ms) -- higher than any that redsched gave
  end
  number = string.format('%.0f', call('HINCRBY', key, 'last', 1))
  call('HSET', key, digest, number, 'ids ' .. number, cmsgpack.pack({ digest, ids }))
  local oldest = 'ids ' .. string.format('%.0f', tonumber(number) - KEPT)
  local old = call('HGET', key, oldest)
  if old then
    call('HDEL', key, oldest, (kept_generation(old)) or oldest)
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
      local _, ids = kept_generation(kept)
      others[#others + 1] = { tonumber(other), one[1], one[2], ids }
    end
  end
  replies[i] = { owner, tonumber(number), others }
end
close_clock()
return { 'OK', now_us, replies }
