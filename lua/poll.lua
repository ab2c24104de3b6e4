-- poll: the worker's one call: settle, renew, recover, claim; then compute until when to sleep.
-- Flags   allow-oom
-- State   running -> (ended) | scheduled | dead; scheduled -> running
-- KEYS    clock       HASH   the instant
--         events      STREAM transitions
--         leases      ZSET   run id -> lease expiry, ms
--         dead        ZSET   run id -> when, ms
--         workers     ZSET   worker id -> heartbeat, ms
-- ARGV    prefix      str    hash tag of the shard
--         worker      str    id of the worker
--         sequence    int    number of this poll; a resent one has the same
--         capacity    int    how many runs to claim at most; 0 = none
--         queues      bytes  msgpack list of queues, the preferred first
--         lease_ms    int    how long a lease lasts
--         max_idle_ms int    longest sleep of an idle worker
--         settled     bytes  msgpack list of rows (include/settle), as the events keep them; '' = none
--         done        bytes  msgpack flat list: run id, fence, for the first of these rows: plain runs that are done;
--                            '' = none
--         done_bytes  int    where these rows end in `settled`
--         index       bytes  marks of their ids (redsched/store/marks.py); '' = their outcomes are not to be kept
--         others      int    number of rows that follow these
--         deaths      bytes  msgpack flat list: run id, error, traceback, for rows that are dead; '' = none
--         results     bytes  msgpack flat list: run id, result, ttl_ms; '' = none
--         following   bytes  msgpack list of job id, version, next_ms, after_ms; '' = none
--         held        bytes  msgpack flat list: run id, fence, of the leases to renew; '' = none
--         heartbeat   bytes  msgpack map of what the worker serves; '' = no heartbeat in this poll
--         stalled     bytes  msgpack list: a stall of the event loop or false, the runs that caused one; '' = none
--         worker_ttl_ms int    a worker without a heartbeat for this long is gone
--         dead_age_ms int    how long dead runs are kept
--         dead_max    int    how many dead runs are kept
--         dead_max_bytes int how many bytes they may take
--         events_max  int    entries of the stream
--         events_max_bytes int bytes of the stream
--         outcomes_max_bytes int bytes of the outcomes
--         record_max  int    bytes; a longer record is not sent
--         places      bytes  msgpack map of queue -> list of places (include/park) that the worker serves; '' = none
-- Derives job run live waiting tag due parked parking idle wake mail worker result ended batches index outcome answers declared quarantine
-- Reply   OK now_us sleep_until_ms claims plans refused lost stop more tally places; places = all existing ones, if there
--         was a heartbeat. One more part, a sequence: nothing was done, because this one is stored; send a higher one
-- Again   the same sequence gives the same claims and refusals, from what is stored, and no tally
-- Cost    O((settled + claimed) * log N)
--- @include clock
--- @include event
--- @include wake
--- @include job
--- @include buried
--- @include bury
--- @include lost
--- @include over
--- @include unpark
--- @include fleet
--- @include park
--- @include finish
--- @include stall
--- @include blame
--- @include spoil
--- @include settle
--- @include renew
--- @include readable
--- @include restart
--- @include shorten
--- @include recover
--- @include beside_seal
--- @include claim
--- @include take
--- @include replay
--- @include sleep
--- @include places
--- @include reap
local replay = replayed(sequence)
if replay then
  return replay
end

for _, queue in ipairs(cmsgpack.unpack(queues)) do
  call('ZCARD', due_key(queue)) -- raises where it is of another type, before anything is changed
end
local refused = settled ~= '' and settle() or {}
if following ~= '' then
  note_following(cmsgpack.unpack(following))
end
local lost, stop = {}, {}
if held ~= '' then
  lost, stop = renew(cmsgpack.unpack(held))
end
recover(100)
local listed = {}
if heartbeat ~= '' then
  call('ZADD', workers, now_ms, worker)
  call('HSET', prefix .. 'worker:' .. worker, 'info', heartbeat, 'parks', 1)
  reap(tonumber(worker_ttl_ms))
  local fine, list = pcall(list_places)
  listed = fine and list or {}
end

local room = tonumber(capacity)
local sleep_until_ms, more = now_ms + max_idle_ms, 0
local lease_at = earliest_lease()
for _, queue in ipairs(cmsgpack.unpack(queues)) do
  local parked, stays = claim_parked(queue, room)
  room, more = room - parked, math.max(more, stays)
  if room > 0 then
    room = room - claim(queue, room)
  end
  if room > 0 and declined[queue] then
    hand_on(queue, worker) -- else this worker, being the first again, would always take what only others can run
  elseif room > 0 then
    sleep_until_ms = math.max(now_ms, math.min(sleep_until_ms, watch(queue, lease_at)))
  elseif call('ZCOUNT', due_key(queue), '-inf', now_ms) > 0 then
    more = 1
    hand_on(queue, worker)
  else
    step_down(queue, worker)
  end
end
in_chunks('ZADD', leases, lease_args)
if heartbeat ~= '' or burials > 0 then
  forget_surplus(tonumber(dead_age_ms), tonumber(dead_max), tonumber(dead_max_bytes))
end
remember(refused)
publish(worker, report(refused))
close_clock()
return { 'OK', now_us, sleep_until_ms, claims, plans, refused, lost, stop, more, tally(), listed }
