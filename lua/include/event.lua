-- event: collect transitions with their reasons, and append them to `events` as few entries as possible.
-- Needs   trim, outcomes, events, call, now_ms
-- Gives   event(), publish(), tally()
-- Why     Two stream entries for each run would halve the throughput; one entry carries a batch.
--- @include trim
--- @include outcomes
local ERROR_BYTES = 500
local ENDS = { dead = true, missed = true, cancelled = true, removed = true, skipped = true }
local moved, tallied = {}, {}

-- One transition. `first_ms`..`last_ms` is a span of fires where `count` is not 1. One that ends a run, or a fire that
-- did not become one, is its outcome as well, unless `goes_on`: then something of the job still runs. `run_id` names a
-- run that has its own hash.
local function event(kind, id, reason, first_ms, last_ms, count, attempt, detail, run_id, goes_on)
  if ENDS[kind] and not goes_on then
    note_event(kind, id, reason, tonumber(last_ms), attempt, detail, run_id)
  elseif kind == 'ended' then
    tell_waiters(id, id, false)
  end
  moved[#moved + 1] = {
    kind, id, reason or false, tonumber(first_ms) or false, tonumber(last_ms) or false, count or false,
    attempt or false, detail and string.sub(detail, 1, ERROR_BYTES) or false,
  }
  local word = reason and kind .. ' ' .. reason or kind
  tallied[word] = (tallied[word] or 0) + (count or 1)
end

-- How many transitions of each kind and reason there were, for the caller's metrics: a flat list.
local function tally()
  local flat = {}
  for word, count in pairs(tallied) do
    flat[#flat + 1], flat[#flat + 2] = word, count
  end
  return flat
end

local publish
do
  local function append(entry)
    local by_what, how, limit = trim_for(entry)
    call('XADD', events, by_what, how, limit, '*', unpack(entry))
  end

  -- What is stored of the stream's length has no sense; or another wrote its last possible id, or a key of another type.
  -- This comes after all changes, so it must not raise: the stream is put aside, and begins anew.
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
      local told = { 'quarantined', 'events', 'wrong_type', false, false, 1, false, string.sub(added.err, 1, ERROR_BYTES) }
      call('XADD', events, '*', 'at', now_ms, 'by', 'redsched', 'moved', cmsgpack.pack({ told }))
      call('XADD', events, '*', unpack(entry))
    end
  end

  -- Append what was collected, and the given fields (a flat list) with the first entry.
  function publish(by, fields)
    keep_outcomes()
    local from = 1
    repeat
      local entry = { 'at', now_ms, 'by', by }
      if #moved > 0 then
        local chunk = moved
        if #moved > 128 then
          chunk = {}
          for i = from, math.min(from + 127, #moved) do
            chunk[#chunk + 1] = moved[i]
          end
        end
        entry[#entry + 1] = 'moved'
        entry[#entry + 1] = cmsgpack.pack(chunk)
      end
      if from == 1 then
        for i = 1, #fields do
          entry[#entry + 1] = fields[i]
        end
      end
      if #entry > 4 and not pcall(append, entry) then
        append_anyway(entry)
      end
      from = from + 128
    until from > #moved
  end
end
