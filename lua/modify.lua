-- modify: change a job's record and its due time, if its version is still the one that was read. Also resume and
--         reschedule, which differ only in what the client computes.
-- Flags   none
-- State   scheduled | paused -> scheduled | paused | (ended)
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         dead        ZSET   run id -> when, ms
-- ARGV    prefix      str    hash tag of the shard
--         request     str    <client>:<number>; a resent request has the same
--         confirmed   int    this client has confirmed the replies to all its requests below this number
--         assumed_ms  int    the instant that fire times were computed for; 0 = none were
--         id          str    job id
--         version     int    the version that was read
--         change      bytes  msgpack map: record, set (flat list), unset (list), tags, queue, when, kind, reason
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job declared run due parked tag live waiting idle wake requests ended batches index outcome answers quarantine
-- Reply   OK now_us record job; record = the stored record, for an event that may be read after the job is gone, else
--         false; job = its new state, because it may run and end immediately: as a row of inspect without id and record;
--         false = it is gone | NOTFOUND | CHANGED | CLOCK now_us | LATE now_us
-- Again   the first reply, kept until it is confirmed
-- Cost    O(log N)
--
-- change.entry: {application, entry}, the new entry in `declared`. Without a kind, no event is written.
-- change.cursor, change.dropped: see include/dropped; without a cursor only the version is compared.
-- change.paused: {field, instant}: the first fire that a pause hides; none = its next fire, or its time.
-- change.when: false = unchanged; {at_ms, after_ms (-1 = not known, 0 = none)} = due then; 'pause' = not due;
--              'saved' = the due time from before the pause; 'end' = it has no further fire, remove it.
--- @include clock
--- @include event
--- @include once
--- @include wake
--- @include job
--- @include dropped
--- @include unpark
if first_reply then
  return first_reply
end
local assumed = tonumber(assumed_ms)
if assumed > 0 and math.abs(now_ms - assumed) > 2000 then
  return { 'CLOCK', now_us }
end
local key = job_key(id)
local job = to_table(call('HGETALL', key))
if not job.record or job.state == 'dead' then
  return answer({ 'NOTFOUND' })
end
if (whole(job.version) or 0) ~= tonumber(version) then
  return answer({ 'CHANGED' })
end

local what = cmsgpack.unpack(change)
local queue = what.queue or job.queue or 'default'
local old_due = due_key(job.queue)
local score = due_at(id, job.queue, job.parked)
if what.cursor and has_moved(job, score, what.cursor) then
  return answer({ 'CHANGED' })
end
all_back_to_due(id, job)
drop(id, what.dropped)
if what.entry then
  call('HSET', declared_key(what.entry[1]), id, what.entry[2])
end
next_version(key)
call('HDEL', key, 'plan_fence', 'claim_fence', 'after_ms', 'reason', 'postponed', 'needs', unpack(what.unset or {}))
if what.record then
  call('HSET', key, 'record', what.record)
end
if what.set and #what.set > 0 then
  call('HSET', key, unpack(what.set))
end
if what.tags then
  untag(id, job.tags)
  call('HDEL', key, 'tags')
  if #what.tags > 0 then
    call('HSET', key, 'tags', cmsgpack.pack(what.tags))
    for _, name in ipairs(what.tags) do
      call('SADD', prefix .. 'tag:' .. name, id)
    end
  end
end
if queue == 'default' then
  call('HDEL', key, 'queue')
else
  call('HSET', key, 'queue', queue)
end

local when = what.when
if job.parked and not when then
  wake(queue, tonumber(score))
end
if job.plan_fence and job.next_ms and score then
  -- A worker was planning it, and its plan will be refused: another need not wait for the end of its lease.
  score = job.next_ms
  if not when then
    call('ZADD', old_due, score, id)
    wake(job.queue or 'default', tonumber(score))
  end
end
if not when and queue ~= (job.queue or 'default') and score then
  call('ZREM', old_due, id)
  call('ZADD', due_key(queue), score, id)
  wake(queue, tonumber(score))
elseif when == 'saved' then
  when = { whole(job.paused_ms) or tonumber(score) or now_ms, -1 }
end
if when == 'end' then
  call('ZREM', old_due, id)
  call('HDEL', key, 'next_ms', 'state', 'paused_ms', 'paused_from')
  end_if_over(id)
elseif when == 'pause' and not job.periodic and job.fence and not score then
  what.kind = 'modified' -- its last run goes on: nothing is left to pause
elseif when == 'pause' then
  call('ZREM', old_due, id)
  call('HDEL', key, 'next_ms')
  call('HSET', key, 'state', 'paused')
  local at = job.periodic and job.next_ms or score
  if what.paused then
    call('HSET', key, what.paused[1], what.paused[2]) -- by another schedule than the one that it had
  elseif at then
    call('HSET', key, 'paused_ms', at) -- a one-shot job keeps its time; of others it is the first fire that is hidden
  end
elseif when then
  call('ZREM', old_due, id)
  call('HDEL', key, 'state', 'paused_ms', 'paused_from')
  if not job.fence then
    -- A new fire, not another attempt of the old one.
    call('HDEL', key, 'fire_ms', 'attempt', 'recoveries', 'lost', 'excused')
  end
  local periodic = call('HEXISTS', key, 'periodic') == 1
  if not periodic and call('EXISTS', prefix .. 'live:' .. id, prefix .. 'waiting:' .. id) > 0 then
    call('HSET', key, 'beside', 1, 'has_runs', 1)
  end
  if periodic or job.fence then
    call('HSET', key, 'next_ms', when[1])
  else
    call('HDEL', key, 'next_ms')
  end
  if periodic and when[2] >= 0 then
    call('HSET', key, 'after_ms', when[2])
  end
  call('ZADD', due_key(queue), when[1], id)
  wake(queue, when[1])
end
if what.kind then
  event(what.kind, id, what.reason)
end
publish(client, {})

local fields, others = call('HGETALL', key), {}
for i = 1, #fields, 2 do
  if fields[i] ~= 'record' then
    others[#others + 1] = fields[i]
    others[#others + 1] = fields[i + 1]
  end
end
local now = #fields > 0
  and { others, call('ZSCORE', due_key(queue), id), live_count(id), call('SCARD', prefix .. 'waiting:' .. id) }
close_clock()
return answer({ 'OK', now_us, below < 0 and what.record or false, now })
