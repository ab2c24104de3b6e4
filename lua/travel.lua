-- travel: move the scheduler's time ahead, for the whole fleet (testing kit). With 0 it only returns the time.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
--         workers     ZSET   worker id -> heartbeat, ms
--         leases      ZSET   run id -> lease expiry, ms
-- ARGV    prefix      str    hash tag of the shard
--         ahead_ms    int    how far; never negative
--         until_ms    int    or to this instant, if it is later than now; 0 = use ahead_ms
-- Derives mail live job declarers applications
-- Reply   OK now_us
-- Again   with until_ms, nothing further; with ahead_ms it moves again
-- Cost    O(workers + running runs)
--- @include clock
--- @include mail
--- @include job
local ahead = tonumber(ahead_ms)
if tonumber(until_ms) > 0 then
  ahead = math.max(0, tonumber(until_ms) - now_ms)
end
if ahead > 0 then
  call('HINCRBY', clock, 'offset_ms', ahead)
  now_us = now_us + ahead * 1000
  -- Heartbeats move along, or every worker would seem long gone.
  for _, worker in ipairs(call('ZRANGE', workers, 0, -1)) do
    call('ZINCRBY', workers, ahead, worker)
    tell(worker, 'travel')
  end
  for _, owner in ipairs(call('SMEMBERS', prefix .. 'applications')) do
    local key = prefix .. 'declarers:' .. owner
    for _, member in ipairs(call('ZRANGE', key, 0, -1)) do
      if string.find(member, ':', 1, true) then
        call('ZINCRBY', key, ahead, member) -- not the mark of a process that has left
      end
    end
  end
  -- So do leases: a run that goes on has not lost its worker.
  for _, run_id in ipairs(call('ZRANGE', leases, 0, -1)) do
    call('ZINCRBY', leases, ahead, run_id)
    local own = job_of(run_id)
    if own then
      call('ZINCRBY', prefix .. 'live:' .. own, ahead, run_id)
    end
  end
  close_clock()
end
return { 'OK', now_us }
