-- leave: a worker leaves, in an orderly way or after an error; another watches its queues immediately.
-- Flags   allow-oom
-- State   (none) | scheduled -> scheduled, if no remaining worker looks at parked runs
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         workers     ZSET   worker id -> heartbeat, ms
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         queues      bytes  msgpack list of its queues
--         keep        int    1 = its local queue has jobs that only it can run: other workers end them later
--         failed      str    the error that ended it; '' = an orderly end
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
-- Derives idle wake worker mail due parked parking job run ended batches index outcome answers quarantine
-- Reply   OK now_us more; more = 1: call again for the runs that are still parked
-- Again   changes nothing further
-- Cost    O(queues + workers), 1,000 members of each place
--- @include clock
--- @include event
--- @include wake
--- @include job
--- @include unpark
--- @include fleet
--- @include places
if keep == '0' then
  call('ZREM', workers, worker)
else
  call('ZADD', workers, 0, worker) -- long gone, for reap
end
call('DEL', prefix .. 'worker:' .. worker, prefix .. 'mail:' .. worker)
for _, queue in ipairs(cmsgpack.unpack(queues)) do
  step_down(queue, worker)
end
local more = 0
if not is_parking_served(worker) then
  for _, place in ipairs(call('ZRANGE', parking, 0, LISTED_MAX - 1)) do
    local fine, freed = pcall(free_place, place)
    if fine and freed == FREED_MAX then
      more = 1
    end
  end
end
if failed ~= '' then
  event('worker_failed', '', nil, nil, nil, 1, false, failed)
  publish(worker, {})
end
close_clock()
return { 'OK', now_us, more }
