-- requeue: make dead runs due again, with all their attempts.
-- Flags   none
-- State   dead -> scheduled
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         dead        ZSET   run id -> when, ms
-- ARGV    prefix      str    hash tag of the shard
--         request     str    <client>:<number>; a resent request has the same
--         confirmed   int    this client has confirmed the replies to all its requests below this number
--         ids         bytes  msgpack list of run ids; <job id>@<fire ms> names a one-shot job's run as well
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives job run waiting due idle wake requests ended batches index outcome answers quarantine
-- Reply   OK now_us requeued; the ids that were dead, as they were passed | LATE now_us (include/once)
-- Again   the first reply, kept until it is confirmed
-- Cost    O(runs * log N)
--- @include clock
--- @include event
--- @include once
--- @include wake
--- @include job
--- @include buried
if first_reply then
  return first_reply
end
local requeued = {}
for _, given in ipairs(cmsgpack.unpack(ids)) do
  local run_id, own = given, job_of(given)
  if own and call('EXISTS', run_key(run_id)) == 0 then
    -- So was the only run of a one-shot job called in its context: such ids may be kept somewhere.
    local fire_ms = call('HGET', job_key(own), 'fire_ms')
    if fire_ms and run_id == own .. '@' .. fire_ms then
      run_id, own = own, nil
    end
  end
  local key = own and run_key(run_id) or job_key(run_id)
  local run = to_table(call('HGETALL', key))
  if run.state == 'dead' then
    uncount_dead(key)
    call(
      'HDEL', key, 'state', 'reason', 'error', 'traceback', 'dead_ms', 'attempt', 'recoveries', 'lost', 'excused'
    )
    call('HSET', key, 'begun', 1) -- it was requested, so it is not too late
    call('ZREM', dead, run_id)
    if own then
      call('SADD', prefix .. 'waiting:' .. own, run_id)
    elseif run.periodic then
      call('HSET', key, 'next_ms', now_ms) -- its schedule had raised: plan it again
    end
    call('ZADD', due_key(run.queue), now_ms, run_id)
    wake(run.queue or 'default', now_ms)
    event('requeued', own or run_id, 'manual', run.fire_ms, run.fire_ms, 1, nil, nil, run_id)
    requeued[#requeued + 1] = given
  end
end
publish(client, {})
close_clock()
return answer({ 'OK', now_us, requeued })
