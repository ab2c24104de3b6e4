-- sleep: until when an idle worker may sleep, and who of the idle ones watches which queue.
-- Needs   job, wake, hints, worker, leases, max_idle_ms
-- Gives   watch(queue), earliest_lease()
-- Why     See wake. The leader sleeps until the next due instant, its deputy a little longer in case the leader
--         died, all others until a token or their next heartbeat.
local DEPUTY_MS = 50

local function earliest_lease()
  local first = call('ZRANGE', leases, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) or math.huge
end

local watch
do
  local function keep_watch(queue, lease_at)
    local first = call('ZRANGE', due_key(queue), 0, 0, 'WITHSCORES')
    local at_ms = math.min(first[2] and tonumber(first[2]) or math.huge, lease_at, now_ms + max_idle_ms)
    local idle_key = prefix .. 'idle:' .. queue
    local idle = call('HMGET', idle_key, 'leader', 'until_ms', 'deputy', 'deputy_ms')
    local until_ms, deputy_ms = whole(idle[2]), whole(idle[4])
    if not idle[1] or idle[1] == worker or not until_ms or until_ms > at_ms or until_ms <= now_ms then
      call('HSET', idle_key, 'leader', worker, 'until_ms', at_ms)
      if idle[3] == worker then
        call('HDEL', idle_key, 'deputy', 'deputy_ms')
      end
    elseif
      not idle[3]
      or idle[3] == worker
      or not deputy_ms
      or now_ms > deputy_ms + WAKE_SLACK_MS
      or deputy_ms > at_ms + DEPUTY_MS
    then
      at_ms = math.min(at_ms + DEPUTY_MS, now_ms + max_idle_ms)
      call('HSET', idle_key, 'deputy', worker, 'deputy_ms', at_ms)
    else
      return now_ms + max_idle_ms
    end
    call('PEXPIRE', idle_key, 60000)
    return at_ms
  end

  function watch(queue, lease_at)
    return on_hints(keep_watch, queue, lease_at)
  end
end
