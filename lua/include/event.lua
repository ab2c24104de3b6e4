-- event: collect transitions with their reasons, and append them to `events` as few entries as possible.
-- Needs   trim, outcomes, events, call, now_ms
-- Gives   event(), publish(), tally()
-- Why     Two stream entries for each run would halve the throughput; one entry carries a batch.
--- @include trim
--- @include outcomes
local ERROR_BYTES = 500
local ENDS = { dead = true, missed = true, cancelled = true, removed = true, skipped = true }
local moved, runs, tallied = {}, {}, {}

-- One transition. `first_ms`..`last_ms` is a span of fires where `count` is not 1. One that ends a run, or a fire that
-- did not become one, is its outcome as well, unless `goes_on`: then something of the job still runs. `run_id` is given
-- where it is a transition of one run; that of a one-shot job's only run is the id of the job. It is not part of the row
-- in `moved`, which earlier versions read by position, but of `runs`: a list as long, with false for rows without a run.
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
  runs[#moved] = run_id
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
  local function rows_from(from)
    local rows, ids, has_ids = {}, {}, false
    for i = from, math.min(from + 127, #moved) do
      rows[#rows + 1], ids[#ids + 1] = moved[i], runs[i] or false
      has_ids = has_ids or runs[i] ~= nil
    end
    return rows, has_ids and ids
  end

  -- Append what was collected, and the given fields (a flat list) with the first entry.
  function publish(by, fields)
    keep_outcomes()
    local from = 1
    repeat
      local entry = { 'at', now_ms, 'by', by }
      if #moved > 0 then
        local rows, ids = rows_from(from)
        entry[5], entry[6] = 'moved', cmsgpack.pack(rows)
        if ids then
          entry[7], entry[8] = 'runs', cmsgpack.pack(ids)
        end
      end
      if from == 1 then
        for i = 1, #fields do
          entry[#entry + 1] = fields[i]
        end
      end
      if #entry > 4 then
        append(entry)
      end
      from = from + 128
    until from > #moved
  end
end
