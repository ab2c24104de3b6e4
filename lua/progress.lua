-- progress: store the progress that a running task reports.
-- Flags   none
-- State   running -> running
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         run_id      str    the run
--         fence       int    token of the claim
--         progress    bytes  msgpack: the value that the task reported
-- Derives job run
-- Reply   OK now_us | STALE
-- Again   the same
-- Cost    O(1)
--- @include clock
--- @include job
local own = job_of(run_id)
local key = own and run_key(run_id) or job_key(run_id)
local held = call('HMGET', key, 'fence', 'owner')
if not held[1] or held[1] ~= fence or held[2] ~= worker then
  return { 'STALE' }
end
local holder = own and job_key(own) or key
if call('EXISTS', holder) == 1 then -- a requeued run may have outlived its job
  call('HSET', holder, 'progress', progress)
end
return { 'OK', now_us }
