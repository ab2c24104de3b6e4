-- replay: a poll whose reply was lost is sent again, and must give the same runs, not others.
-- Needs   whole, job, claim, beside_seal, readable, unpark, blame, worker, prefix
-- Gives   replayed(sequence), remember(refused), note_following(rows), report(refused)
-- Why     Of the last poll only ids and tokens are kept (of plain claims just the ids, which are in the events too); the records are read again from the runs themselves. A
--         run whose lease expired before the resend has been given to another, and is left out. A copy of an older
--         poll, that the network kept for a while, does nothing: its reply is not awaited.
local worker_key = prefix .. 'worker:' .. worker

local claimed = ''

local function remember(refused)
  local held = {}
  for _, row in ipairs(claims) do
    if type(row) == 'table' then
      local run_id, fence, attempt, _, _, queue, _, following_of, version, postponed, begun = unpack(row, 1, 11)
      held[#held + 1] = { run_id, fence, attempt, following_of, version, postponed, queue, begun }
    end
  end
  local planned = {}
  for i, row in ipairs(plans) do
    planned[i] = { unpack(row, 1, 2) } -- job id, fence
  end
  if #claimed_ids > 0 then
    claimed = cmsgpack.pack(claimed_ids)
  end
  local last = cmsgpack.pack({ held, planned, refused, first_fence, last_fence })
  call('HSET', worker_key, 'sequence', sequence, 'last', last, 'claimed', claimed)
  call('PEXPIRE', worker_key, 600000)
end

-- A list; an empty one where another wrote something else. What was claimed is recovered then.
local function unpacked(packed)
  local fine, list = pcall(cmsgpack.unpack, packed or '')
  return fine and type(list) == 'table' and list or {}
end

-- `kept`: what `remember` kept of its row, nil for a plain claim.
local function replay_run(id, kept, oldest_fence, newest_fence)
  local own = job_of(id)
  local run = to_table(call('HGETALL', own and run_key(id) or job_key(id)))
  local fence = run.owner == worker and whole(run.fence)
  local _, its_fence, attempt, following_of, version, postponed, queue, begun = unpack(kept or {}, 1, 8)
  if kept and fence == its_fence then
    local record = run.record or call('HGET', job_key(own), 'record')
    claims[#claims + 1] = {
      id, fence, attempt, assert(whole(run.fire_ms)), readable(record), queue, fires_of(run), following_of, version, postponed,
      begun, own and beside_seal_of_run(record, own, run) or beside_seal(record, run, run),
    }
  elseif not kept and fence and fence >= oldest_fence and fence <= newest_fence and whole(run.fire_ms) then
    local record, at = readable(run.record), #claims
    claims[at + 1], claims[at + 2], claims[at + 3], claims[at + 4] = id, run.fence, run.fire_ms, record
  end
end

local function replay_plan(row)
  local job_id, fence = unpack(row, 1, 2)
  local job = to_table(call('HGETALL', job_key(job_id)))
  if whole(job.plan_fence) == fence then
    plans[#plans + 1] = {
      job_id, fence, assert(whole(job.next_ms)), whole(job.version) or 0, live_count(job_id),
      whole(job.runs_left) or false, readable(job.record), job.queue or 'default', whole(job.postponed) or 0,
      beside_seal(job.record, job, {}),
    }
  end
end

local function replayed(wanted)
  local its_sequence, packed_last, packed_ids = unpack(call('HMGET', worker_key, 'sequence', 'last', 'claimed'))
  if its_sequence ~= wanted then
    -- No poll is late by more than some minutes: what is further ahead, another wrote.
    local number = whole(its_sequence, 0, tonumber(wanted) + 1000000000)
    if number and number > tonumber(wanted) then
      return { 'OK', now_us, now_ms, {}, {}, {}, {}, {}, 0, {}, {}, number }
    end
    return nil
  end
  local last = unpacked(packed_last)
  for i = 1, 3 do
    last[i] = type(last[i]) == 'table' and last[i] or {}
  end
  local held, planned, refused, oldest_fence, newest_fence = unpack(last, 1, 5)
  local kept = {}
  for _, row in ipairs(held) do
    kept[type(row) == 'table' and row[1] or ''] = row
  end
  for _, id in ipairs(unpacked(packed_ids)) do
    pcall(replay_run, id, kept[id], oldest_fence, newest_fence) -- what cannot be read is recovered when its lease ends
  end
  for _, row in ipairs(planned) do
    pcall(replay_plan, row)
  end
  close_clock()
  return { 'OK', now_us, now_ms, claims, plans, refused, {}, {}, 1, {}, call('ZRANGE', parking, 0, -1) }
end

-- The fire after the next one of periodic jobs, found by their worker while it ran them: flat rows of four.
local function note_following(rows)
  for i = 1, #rows, 4 do
    local job_id, version, fire_ms, after_ms = unpack(rows, i, i + 3)
    local next_ms, its_version = unpack(redis.pcall('HMGET', job_key(job_id), 'next_ms', 'version'))
    if next_ms and tonumber(next_ms) == fire_ms and (tonumber(its_version) or 0) == version then
      call('HSET', job_key(job_id), 'after_ms', after_ms)
    end
  end
end

-- The fields of this poll's entry in `events`.
local function report(refused)
  local fields = {}
  if settled ~= '' then
    fields[1], fields[2] = 'settled', settled
    if #refused > 0 then
      fields[3], fields[4] = 'refused', cmsgpack.pack(refused)
    end
  end
  if claimed ~= '' then
    fields[#fields + 1] = 'claimed'
    fields[#fields + 1] = claimed
  end
  blame.add_to(fields)
  return fields
end
