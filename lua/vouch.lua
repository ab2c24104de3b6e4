-- vouch: a worker whose event loop is blocked is alive: its process vouches for it, and its leases are extended.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
--         workers     ZSET   worker id -> heartbeat, ms
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         for_ms      int    how long from now its leases do not expire; 0 = its process has ended: they expire as stored
--         blocker     str    the run that blocks the event loop; '' = not known
-- Derives worker job
-- Reply   OK now_us known; known is 0 if the worker does not exist: it has left, or never polled
-- Again   vouches for the same time from that call on
-- Cost    O(log N)
-- Why     The leases themselves are not touched: include/recover reads this when it finds one that has expired.
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
