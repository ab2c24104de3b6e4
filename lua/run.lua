-- run: make a job due now, once, beside its schedule.
-- Flags   none
-- State   scheduled | paused -> scheduled (one more run)
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
-- ARGV    prefix      str    hash tag of the shard
--         request     str    <client>:<number>; a resent request has the same
--         confirmed   int    this client has confirmed the replies to all its requests below this number
--         id          str    job id
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job run waiting due parked idle wake requests ended batches index outcome answers quarantine
-- Reply   OK now_us run_id | NOTFOUND | LATE now_us (include/once)
-- Again   the first reply, kept until it is confirmed
-- Cost    O(log N)
--- @include clock
--- @include event
--- @include once
--- @include wake
--- @include job
--- @include unpark
if first_reply then
  return first_reply
end
local job = to_table(call('HGETALL', job_key(id)))
if not job.record or job.state == 'dead' then
  return answer({ 'NOTFOUND' })
end
local due = due_key(job.queue)
local run_id = id
if not job.periodic and not job.fence and job.state ~= 'paused' then
  unpark(id, job_key(id), job.parked)
  call('ZADD', due, now_ms, id) -- a one-shot job that waits: its only run comes forward
else
  run_id = free_run_id(id, now_ms, tonumber(job.next_ms))
  if not job.periodic then
    call('HSET', job_key(id), 'has_runs', 1) -- its own run must not take the job along when it ends
  end
  call('HSET', run_key(run_id), 'job', id, 'fire_ms', now_ms, 'reason', 'manual')
  if job.queue then
    call('HSET', run_key(run_id), 'queue', job.queue)
  end
  call('SADD', prefix .. 'waiting:' .. id, run_id)
  call('ZADD', due, now_ms, run_id)
end
wake(job.queue or 'default', now_ms)
event('requeued', id, 'manual', now_ms, now_ms, 1, nil, nil, run_id)
publish(client, {})
close_clock()
return answer({ 'OK', now_us, run_id })
