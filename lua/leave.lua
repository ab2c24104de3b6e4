-- leave: a worker goes in good order; another watches its queues at once.
-- Flags   allow-oom
-- State   (none)
-- KEYS    clock       HASH   the instant
--         workers     ZSET   worker id -> heartbeat, ms
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         queues      bytes  msgpack list of its queues
--         keep        int    1 = its local queue has jobs that only it can run: let the others end them
-- Derives idle wake worker mail due job
-- Reply   OK now_us
-- Again   changes nothing further
-- Cost    O(queues)
--- @include clock
--- @include wake
if keep == '0' then
  call('ZREM', workers, worker)
else
  call('ZADD', workers, 0, worker) -- long gone, for reap
end
call('DEL', prefix .. 'worker:' .. worker, prefix .. 'mail:' .. worker)
for _, queue in ipairs(cmsgpack.unpack(queues)) do
  step_down(queue, worker)
end
close_clock()
return { 'OK', now_us }
