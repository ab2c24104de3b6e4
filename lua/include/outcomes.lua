-- outcomes: how runs ended, for those who ask or wait: found by the run's id, without a look at other runs.
-- Needs   record, prefix, call, clock, whole, now_ms, outcomes_max_bytes
-- Gives   end_with(), note_event(), note_rows(bytes, keep), tell_waiters(), keep_outcomes()
--         OUTCOME_TTL_MS, OUTCOME_TURN_MS
-- Why     The events know how each run ended, but only one after the other. An outcome takes some 140 bytes: those of one
--         script go into one hash, with one command. The hashes are numbered, and the oldest goes when there are too
--         many, so that they are bounded by bytes; they expire, so that an idle server holds none.
--         Plain runs that are done, the usual case, are kept together, as their worker brought them: see finish.
--         What a process waits for is written on the job (`wish`), so that other runs do not pay for it.
--
-- An outcome is msgpack: kind, reason, error, attempt, fire_ms, lateness_ms, duration_ms, task, when_ms, run id. That of a
-- plain run that is done may be text: fire_ms lateness_ms duration_ms task.
--- @include record
local OUTCOME_TTL_MS, OUTCOME_TURN_MS, OUTCOME_HASHES = 300000, 20000, 32
local OUTCOME_OVERHEAD_BYTES, WISH_BYTES = 74, 4096
local OUTCOME_KINDS = { 'ended:', 'batches:' }
local INDEX_PARTS = 8
local noted, noted_rows, noted_bytes = {}, nil, 0

-- Rows that are kept together, by `keep(number of the hashes, name of the rows)`, which returns whether others of that
-- number are enough; once a script.
local function note_rows(bytes, keep)
  noted_rows, noted_bytes = keep, noted_bytes + bytes
end

local function note_outcome(id, packed)
  noted[#noted + 1], noted[#noted + 2] = id, packed
  noted_bytes = noted_bytes + #id + #packed + OUTCOME_OVERHEAD_BYTES
end

-- A message is a hint: waiting processes ask again from time to time.
local function tell_waiters(job_id, run_id, packed)
  local wish = redis.pcall('HGET', prefix .. 'job:' .. job_id, 'wish')
  if type(wish) == 'string' then
    wish = string.sub(wish, 1, WISH_BYTES)
    for waiter in string.gmatch(wish, '%S+') do
      local answers = prefix .. 'answers:' .. waiter
      redis.pcall('RPUSH', answers, job_id .. '\n' .. run_id .. '\n' .. (packed or ''))
      redis.pcall('PEXPIRE', answers, 60000)
    end
    call('HDEL', prefix .. 'job:' .. job_id, 'wish')
  end
end

-- A run has ended. `own` is the job of one that has its own hash; `ttl_ms` is false for the usual one, 0 = keep nothing.
-- To be called while the job is there.
local function end_with(run_id, own, packed, ttl_ms)
  ttl_ms = ttl_ms or OUTCOME_TTL_MS
  for _, id in ipairs(own and { run_id, own } or { run_id }) do
    if ttl_ms > OUTCOME_TTL_MS then
      redis.pcall('SET', prefix .. 'outcome:' .. id, packed, 'PX', ttl_ms)
    elseif ttl_ms > 0 then
      note_outcome(id, packed)
    end
  end
  tell_waiters(own or run_id, run_id, packed)
end

-- A script, not a worker, ended a run, or a fire that never became one.
local function note_event(kind, id, reason, fire_ms, attempt, detail, run_id)
  local record = redis.pcall('HGET', prefix .. 'job:' .. id, 'record')
  local task, ttl_ms = about(type(record) == 'string' and record or '')
  local row = { kind, reason or false, detail or false, attempt or false, fire_ms or false, 0, 0, task, now_ms, run_id or id }
  end_with(run_id or id, run_id and run_id ~= id and id or nil, cmsgpack.pack(row), ttl_ms)
end

local function forget_outcomes(number)
  number = string.format('%.0f', number)
  local keys = {}
  for i, kind in ipairs(OUTCOME_KINDS) do
    keys[i] = prefix .. kind .. number
  end
  for part = 1, INDEX_PARTS do
    keys[#keys + 1] = prefix .. 'index:' .. number .. ':' .. part
  end
  redis.pcall('DEL', unpack(keys))
end

-- Store what was noted; once, at the end of a script.
local function keep_outcomes()
  if #noted == 0 and not noted_rows then
    return
  end
  local saved_outcomes = call('HMGET', clock, 'outcomes', 'outcomes_bytes', 'outcomes_ms')
  local number, bytes = whole(saved_outcomes[1], 0, 1099511627776), whole(saved_outcomes[2]) or 0
  local since = whole(saved_outcomes[3]) or 0
  if not number then
    call('HSET', clock, 'outcomes_from', now_ms) -- of what ended before, only the events know
  end
  local share = outcomes_max_bytes / OUTCOME_HASHES
  if not number or bytes + noted_bytes > share or now_ms - since >= OUTCOME_TURN_MS then
    -- What takes more than the share of one hash counts as several: those numbers are left out.
    number, bytes, since = number or 0, 0, now_ms
    for _ = 1, math.max(1, math.min(OUTCOME_HASHES, math.ceil(noted_bytes / share))) do
      number = number + 1
      forget_outcomes(number - OUTCOME_HASHES)
    end
  end
  local own = string.format('%.0f', number)
  if noted_rows and noted_rows(own, string.format('%.0f', bytes)) then
    since = 0
  end
  local ended = prefix .. 'ended:' .. own
  for from = 1, #noted, 2000 do
    redis.pcall('HSET', ended, unpack(noted, from, math.min(from + 1999, #noted)))
  end
  if #noted > 0 then
    redis.pcall('PEXPIRE', ended, OUTCOME_TTL_MS)
  end
  bytes = string.format('%.0f', bytes + noted_bytes) -- the next rows' name: no other of this number has it
  call('HSET', clock, 'outcomes', own, 'outcomes_bytes', bytes, 'outcomes_ms', since)
end
