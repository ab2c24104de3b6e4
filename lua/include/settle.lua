-- settle: what a worker finished, if its fencing token is still the run's.
-- Needs   job, over, outcomes, bury, spoil, wake, event, finish, park, blame, worker, leases, results, deaths (of poll)
-- Gives   settle() -> ids of the runs that were refused; declined: the queues of what was postponed
-- State   running -> (ended) | scheduled (retry, released, postponed or parked) | dead
--
-- A row: 1 run id, 2 fence, 3 verb, 4 fire_ms, 5 attempt, 6 lateness_ms, 7 duration_ms, 8 task,
--        9 reason, 10 delay_ms, 11 error, shortened (see deaths of poll), 12 remaining fires of its batch, 13 postponements,
--        14 what it needs that its worker does not have (see park), if it was postponed for that; of what ended, how long
--        its outcome is kept, ms (0 = not at all), where that is not the usual
-- Verbs: done missed cancelled (ended); dead; retry; released; postponed.
-- The worker builds the rows so that they are the events' rows too: the stream takes them as they came.

local declined = {}
local causes = {} -- run id -> {error, traceback}

local function note_row(row, run_id, own)
  local _, _, verb, fire_ms, attempt, lateness_ms, duration_ms, task, reason, _, error, _, _, ttl_ms = unpack(row, 1, 14)
  local outcome = { verb, reason, error, attempt, fire_ms, lateness_ms, duration_ms, task, now_ms, run_id }
  end_with(run_id, own, cmsgpack.pack(outcome), ttl_ms)
end

local function bury_settled(run_id, own, row)
  local reason, _, shortened = unpack(row, 9, 11)
  local error, traceback = unpack(causes[run_id] or { shortened or '' })
  bury(run_id, own, reason, error, traceback)
end

-- The run is not running any more, and waits.
local function let_go(run_id, own, attempt)
  local key = own and run_key(run_id) or job_key(run_id)
  call('HDEL', key, 'fence', 'owner')
  if attempt then
    call('HSET', key, 'attempt', attempt)
  end
  if own then
    call('ZREM', prefix .. 'live:' .. own, run_id)
    call('SADD', prefix .. 'waiting:' .. own, run_id)
  end
end

-- Another attempt of the run becomes due at `at_ms`.
local function put_back(run_id, own, job, at_ms, attempt)
  let_go(run_id, own, attempt)
  call('ZADD', due_key(job.queue), at_ms, run_id)
  wake(job.queue or 'default', at_ms)
end

-- One fire of a batch ended and others of it are left: the instance goes on with the next one. If the fire that
-- ended gets another attempt, that becomes a separate run.
local function go_on(row, own, key, job)
  local _, _, verb, fire_ms, attempt, _, _, _, _, delay_ms, _, remaining = unpack(row, 1, 12)
  call('HSET', key, 'fire_ms', remaining[1], 'fires', cmsgpack.pack(remaining))
  call('HDEL', key, 'attempt', 'recoveries', 'lost', 'excused', 'begun')
  local apart = own .. '@' .. string.format('%.0f', fire_ms)
  if verb == 'retry' and job.cancel then
    event('cancelled', own, 'cancelled', fire_ms, fire_ms, 1, attempt, nil, apart)
    return
  end
  if verb ~= 'retry' then
    note_row(row, apart, own)
  end
  if verb ~= 'retry' and verb ~= 'dead' then
    return
  end
  call('HSET', run_key(apart), 'job', own, 'fire_ms', fire_ms)
  if job.queue then
    call('HSET', run_key(apart), 'queue', job.queue)
  end
  if verb == 'retry' then
    put_back(apart, own, job, now_ms + delay_ms, attempt)
  else
    bury_settled(apart, own, row)
  end
end

-- Put a periodic job's fire back as if it had not been claimed, if no later fire was claimed since; so that the
-- fires which pass meanwhile coalesce, instead of piling up as runs. Returns the job's queue, nil if it did not.
local function unclaim(row, own, run_id)
  local _, fence, _, fire_ms, _, _, _, _, _, _, _, remaining = unpack(row, 1, 12)
  local claim_fence, next_ms, queue, runs_left, state =
    unpack(call('HMGET', job_key(own), 'claim_fence', 'next_ms', 'queue', 'runs_left', 'state'))
  if tonumber(claim_fence) ~= fence or not next_ms or state or remaining then
    return nil
  end
  call('HSET', job_key(own), 'next_ms', fire_ms)
  call('HDEL', job_key(own), 'after_ms', 'claim_fence', 'plan_fence')
  if runs_left then
    call('HINCRBY', job_key(own), 'runs_left', 1)
  end
  call('DEL', run_key(run_id))
  call('ZREM', prefix .. 'live:' .. own, run_id)
  call('ZREM', due_key(queue or nil), own)
  return queue or 'default'
end

-- It could not run here: it is parked for others, or due again after the delay.
local function postpone(row, own, run_id, key, job)
  local _, _, _, fire_ms, _, _, _, _, reason, delay_ms, _, _, times, need = unpack(row, 1, 14)
  local member, queue = run_id, job.queue or 'default'
  local its_queue = own and unclaim(row, own, run_id)
  if its_queue then
    member, key, queue = own, job_key(own), its_queue
  else
    let_go(run_id, own, nil)
  end
  call('HSET', key, 'reason', reason, 'postponed', times)
  declined[queue] = true
  if not (need and park(member, key, need, queue, fire_ms)) then
    call('ZADD', due_key(queue), now_ms + delay_ms, member)
    wake(queue, now_ms + delay_ms)
  end
end

-- What follows from one row. To the lists it adds run ids and keys.
local function settle_row(row, refused, is_refused, released, gone)
  local run_id, fence, verb, fire_ms, attempt, _, _, _, reason, delay_ms, _, remaining = unpack(row, 1, 12)
  local own = job_of(run_id)
  local key = own and run_key(run_id) or job_key(run_id)
  local its_fence, owner, tags, next_ms, cancel, queue, periodic, state, has_runs, packed_fires = unpack(redis.pcall(
    'HMGET', key, 'fence', 'owner', 'tags', 'next_ms', 'cancel', 'queue', 'periodic', 'state', 'has_runs', 'fires'
  ))
  if not its_fence or tonumber(its_fence) ~= fence or owner ~= worker then -- no fence: or the key is of another type
    refused[#refused + 1] = run_id
    is_refused[run_id] = true
    local of_fire = remaining and own .. '@' .. string.format('%.0f', fire_ms) or run_id
    event('refused', own or run_id, 'fence_lost', fire_ms, fire_ms, 1, attempt, nil, of_fire)
    blame.excuse_lost(run_id, key, fence)
  else
    local job = {
      tags = tags or nil, next_ms = next_ms or nil, cancel = cancel or nil, queue = queue or nil,
      periodic = periodic or nil, state = state or nil,
    }
    if remaining and verb ~= 'released' then
      go_on(row, own, key, job)
    else
      released[#released + 1] = run_id
      -- A retry after a cancellation, or of a one-shot job that was scheduled again in the meantime, is not wanted.
      local wanted = not cancel and (own or not is_anew(job))
      if (verb == 'retry' or verb == 'released' or verb == 'postponed') and not wanted then
        event(
          'cancelled', own or run_id, cancel and 'cancelled' or 'replaced', fire_ms, fire_ms, 1, attempt, nil, run_id
        )
        verb = 'cancelled'
      elseif verb ~= 'retry' and verb ~= 'released' and verb ~= 'postponed' then
        note_row(row, run_id, own)
      end
      if verb == 'cancelled' and packed_fires then
        local fires = cmsgpack.unpack(packed_fires) -- a batch: those of it that had not begun end as well
        if fires[2] then
          event('cancelled', own, 'cancelled', fires[2], fires[#fires], #fires - 1, nil, nil, run_id, true)
        end
      end
      if verb == 'retry' then
        put_back(run_id, own, job, now_ms + delay_ms, attempt)
      elseif verb == 'released' then
        put_back(run_id, own, job, now_ms, nil)
        if reason ~= 'busy' then
          call('HSET', key, 'begun', 1) -- it was in time: that it starts again late is not its fault
        end
      elseif verb == 'postponed' then
        postpone(row, own, run_id, key, job)
      elseif verb == 'dead' and (own or not is_anew(job)) then
        call('HSET', key, 'attempt', attempt)
        bury_settled(run_id, own, row)
      elseif own or job.tags or is_anew(job) or cancel or has_runs then
        end_run(run_id, own, job)
      else
        gone[#gone + 1] = key -- the usual case: a one-shot job without tags is done
      end
    end
  end
end

local function settle()
  local refused, released, gone = {}, {}, {}
  local is_refused = {}
  local rows = finish(released, gone)
  local died = deaths ~= '' and cmsgpack.unpack(deaths) or {}
  for i = 1, #died, 3 do
    causes[died[i]] = { died[i + 1], died[i + 2] ~= '' and died[i + 2] or nil }
  end
  for i = 1, #rows do
    -- Each by itself: what another wrote into one run must not keep the others from being settled.
    local fine, problem = pcall(settle_row, rows[i], refused, is_refused, released, gone)
    if not fine then
      spoil(rows[i][1], problem)
      released[#released + 1] = rows[i][1]
    end
  end
  if #gone > 0 then
    for from = 1, #gone, 1000 do
      call('DEL', unpack(gone, from, math.min(from + 999, #gone)))
    end
  end
  in_chunks('ZREM', leases, released)
  local kept = results ~= '' and cmsgpack.unpack(results) or {}
  for i = 1, #kept, 3 do
    if not is_refused[kept[i]] then
      call('SET', prefix .. 'result:' .. kept[i], kept[i + 1], 'PX', kept[i + 2])
    end
  end
  return refused
end
