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
      held[#held + 1] = { row[1], row[2], row[3], row[8], row[9], row[10], row[6], row[11] }
    end
  end
  local planned = {}
  for i, row in ipairs(plans) do
    planned[i] = { row[1], row[2] }
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

local function replay_run(id, row, last)
  local own = job_of(id)
  local run = to_table(call('HGETALL', own and run_key(id) or job_key(id)))
  local fence = run.owner == worker and whole(run.fence)
  if row and fence == row[2] then
    local record = run.record or call('HGET', job_key(own), 'record')
    claims[#claims + 1] = {
      id, fence, row[3], assert(whole(run.fire_ms)), readable(record), row[7], fires_of(run), row[4], row[5], row[6], row[8],
      own and beside_seal_of_run(record, own, run) or beside_seal(record, run, run),
    }
  elseif not row and fence and fence >= last[4] and fence <= last[5] and whole(run.fire_ms) then
    local record, at = readable(run.record), #claims
    claims[at + 1], claims[at + 2], claims[at + 3], claims[at + 4] = id, run.fence, run.fire_ms, record
  end
end

local function replay_plan(row)
  local job = to_table(call('HGETALL', job_key(row[1])))
  if whole(job.plan_fence) == row[2] then
    plans[#plans + 1] = {
      row[1], row[2], assert(whole(job.next_ms)), whole(job.version) or 0, live_count(row[1]),
      whole(job.runs_left) or false, readable(job.record), job.queue or 'default', whole(job.postponed) or 0,
      beside_seal(job.record, job, {}),
    }
  end
end

local function replayed(wanted)
  local saved_poll = call('HMGET', worker_key, 'sequence', 'last', 'claimed')
  if saved_poll[1] ~= wanted then
    -- No poll is late by more than some minutes: what is further ahead, another wrote.
    local number = whole(saved_poll[1], 0, tonumber(wanted) + 1000000000)
    if number and number > tonumber(wanted) then
      return { 'OK', now_us, now_ms, {}, {}, {}, {}, {}, 0, {}, {}, number }
    end
    return nil
  end
  local last = unpacked(saved_poll[2])
  for i = 1, 3 do
    last[i] = type(last[i]) == 'table' and last[i] or {}
  end
  local rows = {}
  for _, row in ipairs(last[1]) do
    if type(row) == 'table' and row[1] then
      rows[row[1]] = row
    end
  end
  for _, id in ipairs(unpacked(saved_poll[3])) do
    pcall(replay_run, id, rows[id], last) -- what cannot be read any more is recovered when its lease ends
  end
  for _, row in ipairs(last[2]) do
    pcall(replay_plan, row)
  end
  close_clock()
  return { 'OK', now_us, now_ms, claims, plans, last[3], {}, {}, 1, {}, call('ZRANGE', parking, 0, -1) }
end

-- The fire after the next one of periodic jobs, found by their worker while it ran them: flat rows of four.
local function note_following(rows)
  for i = 1, #rows, 4 do
    local h = redis.pcall('HMGET', job_key(rows[i]), 'next_ms', 'version')
    if h[1] and tonumber(h[1]) == rows[i + 2] and (tonumber(h[2]) or 0) == rows[i + 1] then
      call('HSET', job_key(rows[i]), 'after_ms', rows[i + 3])
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
