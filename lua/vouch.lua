-- vouch: a worker whose event loop stands still is alive: its process says so, and its leases go on.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
--         workers     ZSET   worker id -> heartbeat, ms
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         for_ms      int    how long from now its leases do not end; 0 = its process has ended: they end as they are
--         blocker     str    the run that blocks the event loop; '' = not known
-- Derives worker job
-- Reply   OK now_us known; known is 0 if there is no such worker: it has left, or never polled
-- Again   vouches for as long from then on
-- Cost    O(log N)
-- Why     The leases themselves are not touched: who finds one that has ended asks here (include/recover).
--- @include clock
local key = prefix .. 'worker:' .. worker
local known = call('EXISTS', key)
if known == 1 then
  if for_ms == '0' then
    call('HDEL', key, 'vouched_ms', 'blocker')
  else
    call('HSET', key, 'vouched_ms', now_ms + for_ms, 'blocker', blocker)
    call('PEXPIRE', key, 600000 + for_ms)
    call('ZADD', workers, 'XX', now_ms, worker)
  end
  close_clock()
end
return { 'OK', now_us, known }
