-- wake: one worker, and only if somebody would otherwise oversleep.
-- Needs   prefix, call, now_ms
-- Gives   wake(), hand_on(), step_down(), tell()
-- Why     Of the idle workers of a queue one, the leader, sleeps until the next due instant; a job that is due
--         earlier pushes one token, which one blocked worker gets. A fleet of a thousand is no stampede.
local WAKE_SLACK_MS = 200

local function push_token(queue, deputy_too)
  local wake_key = prefix .. 'wake:' .. queue
  if call('LLEN', wake_key) == 0 then
    call('RPUSH', wake_key, '1')
    if deputy_too then
      call('RPUSH', wake_key, '1')
    end
    call('PEXPIRE', wake_key, 60000)
  end
end

-- A job of this queue is due at `at_ms`.
local function wake(queue, at_ms)
  local idle_key = prefix .. 'idle:' .. queue
  local awaited = tonumber(call('HGET', idle_key, 'until_ms') or nil)
  if awaited and at_ms >= awaited and now_ms <= awaited + WAKE_SLACK_MS then
    return
  end
  -- The leader and its deputy sleep too long for this: whoever takes the token leads. What is not due yet gets a new
  -- deputy as well.
  call('HDEL', idle_key, 'leader', 'deputy', 'deputy_ms')
  call('HSET', idle_key, 'until_ms', at_ms)
  call('PEXPIRE', idle_key, 60000)
  push_token(queue, at_ms > now_ms)
end

-- This worker leaves due work behind, or stops watching the queue: another should look.
local function hand_on(queue, worker)
  if queue == 'local:' .. worker then
    return -- nobody else serves that
  end
  local idle_key = prefix .. 'idle:' .. queue
  local leader = call('HGET', idle_key, 'leader')
  if not leader or leader == worker then
    call('HDEL', idle_key, 'leader', 'until_ms')
  end
  if call('HGET', idle_key, 'deputy') == worker then
    call('HDEL', idle_key, 'deputy', 'deputy_ms')
  end
  push_token(queue)
end

-- As `hand_on`, if anybody relies on this worker: it leads, is the deputy, or may be the one who took the token.
local function step_down(queue, worker)
  local idle = call('HMGET', prefix .. 'idle:' .. queue, 'leader', 'deputy', 'until_ms')
  if idle[1] == worker or idle[2] == worker or (idle[3] and not idle[1]) then
    hand_on(queue, worker)
  end
end

-- A message for one worker. It is a hint only: what must not be lost is told again when leases are renewed.
local function tell(worker, message)
  local mail_key = prefix .. 'mail:' .. worker
  call('RPUSH', mail_key, message)
  call('PEXPIRE', mail_key, 60000)
end
