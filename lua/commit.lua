-- commit: store the plans of claimed periodic jobs and start their runs, or refuse.
-- Flags   allow-oom
-- State   scheduled -> running + scheduled | (ended)
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         leases      ZSET   run id -> lease expiry, ms
--         dead        ZSET   run id -> when, ms
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         lease_ms    int    how long a lease lasts
--         rows        bytes  msgpack list of rows
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job run live waiting tag due parked parking idle wake mail worker workers ended batches index outcome answers quarantine
-- Reply   OK now_us outcomes tally; an outcome is one of started skipped nothing postponed STALE for each row
-- Again   a plan whose token was used already gives its first outcome
-- Cost    O(rows * log N)
--
-- A row: 1 job id, 2 plan fence, 3 fires, 4 next_ms (0 = none), 5 after_ms (0 = none, -1 = not known),
--        6 missed, 7 coalesced, 8 cut: each {first_ms, last_ms, count or false} or false,
--        9 the schedule's error or false, 10 postpone: {delay_ms, times, reason, need or false} or false,
--        11 the reason of the error, if it is not schedule_error
--- @include clock
--- @include event
--- @include wake
--- @include job
--- @include buried
--- @include unpark
--- @include fleet
--- @include park
--- @include bury
--- @include lost
--- @include over
--- @include spoil
--- @include stall
--- @include restart
--- @include shorten
--- @include recover
--- @include beside_seal
--- @include claim
local function span(kind, id, reason, s)
  if s then
    event(kind, id, reason, s[1], s[2], s[3])
  end
end

-- The batch that max_instances refuses is what coalescing left of it: the missed ones too (APScheduler's order).
local function skip(id, fires, missed)
  local first = missed and missed[1] or fires[1]
  local last = #fires > 0 and fires[#fires] or missed[2]
  local count = (missed and missed[3] or 0) + #fires
  event('skipped', id, 'max_instances', first, last, (not missed or missed[3]) and count or nil)
end

local function commit(row)
  local id, fence, fires, next_ms, after_ms, missed, coalesced, cut, error, postponed, reason = unpack(row, 1, 11)
  local key = job_key(id)
  local job = to_table(call('HGETALL', key))
  if job.committed and tonumber(job.committed) == fence then
    return job.committed_outcome
  end
  if tonumber(job.plan_fence) ~= fence then
    return 'STALE'
  end
  local due = due_key(job.queue)
  if type(redis.pcall('ZCARD', due)) == 'table' then
    return 'STALE' -- of another type since it was claimed: the next poll has it put aside, and the job is planned again
  end
  call('HDEL', key, 'plan_fence', 'after_ms')
  if postponed then
    local delay_ms, times, why, need = unpack(postponed)
    local queue = job.queue or 'default'
    call('HSET', key, 'reason', why, 'postponed', times)
    event('postponed', id, why, job.next_ms, job.next_ms, 1)
    if need and park(id, key, need, queue, job.next_ms) then
      call('ZREM', due, id)
    else
      call('ZADD', due, now_ms + delay_ms, id)
      wake(queue, now_ms + delay_ms)
    end
    hand_on(queue, worker) -- to one who perhaps can run it
    return 'postponed'
  end
  if job.postponed then
    call('HDEL', key, 'reason', 'postponed')
  end
  local outcome = 'nothing'
  span('coalesced', id, 'coalesced', coalesced)
  span('missed', id, 'max_catch_up', cut)
  if (#fires > 0 or missed) and has_no_place(id, job) then
    skip(id, fires, missed)
    outcome = 'skipped'
  else
    span('missed', id, 'misfire', missed)
    if #fires > 0 then
      local run_id = id .. '@' .. string.format('%.0f', fires[#fires])
      local fields = { 'job', id, 'fire_ms', fires[1] }
      if #fires > 1 then
        fields[#fields + 1], fields[#fields + 2] = 'fires', cmsgpack.pack(fires)
      end
      if job.queue then
        fields[#fields + 1], fields[#fields + 2] = 'queue', job.queue
      end
      start_run(run_id, id, fence, fields)
      if job.runs_left and call('HINCRBY', key, 'runs_left', -#fires) <= 0 then
        next_ms = 0
      end
      outcome = 'started'
    end
  end
  if error then
    -- What is due runs nevertheless: only the future of the job is lost.
    local first, last, count = lost.of_job((#fires > 0 or missed or coalesced or cut) and {} or job)
    event('dead', id, reason or 'schedule_error', first, last, count, false, error, id)
    call('ZREM', due, id)
    call('HDEL', key, 'next_ms')
    bury(id, nil, reason or 'schedule_error', error)
  elseif next_ms == 0 then
    call('HDEL', key, 'next_ms')
    call('ZREM', due, id)
    event('ended', id, 'ended')
    end_if_over(id)
  else
    call('HSET', key, 'next_ms', next_ms, unpack(after_ms >= 0 and { 'after_ms', after_ms } or {}))
    unpark(id, key, job.parked) -- a fire of it was parked after this plan was made
    call('ZADD', due, next_ms, id)
    wake(job.queue or 'default', next_ms)
  end
  if call('EXISTS', key) == 1 then
    call('HSET', key, 'committed', fence, 'committed_outcome', outcome)
  end
  return outcome
end

call('ZCARD', leases) -- raises where it is of another type, before anything is changed
local outcomes = {}
for i, row in ipairs(cmsgpack.unpack(rows)) do
  -- Each by itself: what another wrote into one job must not keep the others from being planned.
  local fine, outcome = pcall(commit, row)
  if not fine then
    local id = row[1]
    spoil(id, outcome)
    local queue = redis.pcall('HGET', job_key(id), 'queue')
    redis.pcall('ZREM', due_key(type(queue) == 'string' and queue or nil), id)
  end
  outcomes[i] = fine and (outcome or 'nothing') or 'STALE'
end
in_chunks('ZADD', leases, lease_args)
publish(worker, #claimed_ids > 0 and { 'claimed', cmsgpack.pack(claimed_ids) } or {})
close_clock()
return { 'OK', now_us, outcomes, tally() }
