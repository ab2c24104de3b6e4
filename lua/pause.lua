-- pause: keep a job, but do not let it become due. Active runs are not affected (as in APScheduler).
-- Flags   allow-oom
-- State   scheduled -> paused
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
-- ARGV    prefix      str    hash tag of the shard
--         request     str    <client>:<number>; a resent request has the same
--         confirmed   int    this client has confirmed the replies to all its requests below this number
--         id          str    job id
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job due parked requests ended batches index outcome answers quarantine
-- Reply   OK now_us | NOTFOUND | ENDING | LATE now_us (include/once)
-- Again   the first reply, kept until it is confirmed
-- Cost    O(log N)
--- @include clock
--- @include event
--- @include once
--- @include job
--- @include unpark
if first_reply then
  return first_reply
end
local job = to_table(call('HGETALL', job_key(id)))
if not job.record or job.state == 'dead' then
  return answer({ 'NOTFOUND' })
end
if job.state ~= 'paused' then
  local due = due_key(job.queue)
  if job.parked then
    back_to_due(id, job_key(id), job.parked, job.queue)
  end
  local at = job.periodic and job.next_ms or call('ZSCORE', due, id)
  if not at then
    return answer({ 'ENDING' }) -- its last run has been claimed: nothing is left to pause
  end
  call('ZREM', due, id)
  call('HDEL', job_key(id), 'next_ms', 'after_ms', 'plan_fence')
  call('HSET', job_key(id), 'state', 'paused', 'paused_ms', at)
  event('paused', id)
  publish(client, {})
  close_clock()
end
return answer({ 'OK', now_us })
