-- trim: append to the events stream, which is bounded in entries and in bytes.
-- Needs   events, call, clock, prefix, now_ms, events_bytes (of clock), events_max, events_max_bytes
-- Gives   append(entry)
-- Why     Nothing tells the size of a stream cheaply. So what is appended is counted, and where each sixteenth of the
--         bytes ended is kept: when another is full, the oldest go, in the same XADD.
local SEGMENTS = 16

-- Three arguments of XADD: by number, or, when a segment is full, by bytes.
local function trim_for(entry)
  local bytes = 0
  for i = 1, #entry do
    bytes = bytes + (type(entry[i]) == 'string' and #entry[i] or 13)
  end
  if events_bytes + bytes < tonumber(events_max_bytes) / SEGMENTS then
    events_bytes = events_bytes + bytes
    return 'MAXLEN', '~', events_max
  end
  -- Segments end here: id of the last entry, bytes. An entry may be longer than a segment should be.
  local saved_marks = call('HGET', clock, 'events_marks')
  local marks = saved_marks and cmsgpack.unpack(saved_marks) or {}
  local last = call('XREVRANGE', events, '+', '-', 'COUNT', 1)
  if last[1] then
    marks[#marks + 1] = { last[1][1], events_bytes }
  end
  local kept = bytes
  for i = 1, #marks do
    kept = kept + marks[i][2]
  end
  local before
  while #marks > 0 and kept > events_max_bytes * (SEGMENTS - 1) / SEGMENTS do
    before = table.remove(marks, 1)
    kept = kept - before[2]
  end
  events_bytes = bytes
  call('HSET', clock, 'events_marks', cmsgpack.pack(marks))
  if not before then
    return 'MAXLEN', '~', events_max
  end
  local ms, number = string.match(before[1], '^(%d+)-(%d+)$')
  return 'MINID', '=', ms .. '-' .. string.format('%.0f', tonumber(number) + 1)
end

-- Count again.
local function forget_marks()
  events_bytes = 0
  call('HDEL', clock, 'events_marks')
end

-- What is stored of the stream's length has no sense; or another wrote its last possible id, or a key of another type.
-- This comes after all changes, so it must not raise: the stream is set aside, and a new one begins.
local function append_anyway(entry)
  forget_marks()
  local added = redis.pcall('XADD', events, 'MAXLEN', '~', events_max, '*', unpack(entry))
  if type(added) == 'table' and added.err then
    local kept = prefix .. 'quarantine:events'
    if redis.pcall('RENAME', events, kept).err then
      call('DEL', events) -- its user may not rename
    else
      redis.pcall('PEXPIRE', kept, 604800000)
    end
    local quarantined = { 'quarantined', 'events', 'wrong_type', false, false, 1, false, string.sub(added.err, 1, 500) }
    call('XADD', events, '*', 'at', now_ms, 'by', 'redsched', 'moved', cmsgpack.pack({ quarantined }))
    call('XADD', events, '*', unpack(entry))
  end
end

local function append(entry)
  local fine, by_what, how, limit = pcall(trim_for, entry)
  if not fine or not pcall(call, 'XADD', events, by_what, how, limit, '*', unpack(entry)) then
    append_anyway(entry)
  end
end
