-- wake: one worker, and only if the job would otherwise start late.
-- Needs   hints, mail, prefix, call, now_ms
-- Gives   wake(), hand_on(), step_down(), push_token(queue, deputy_too); WAKE_SLACK_MS: how late a wake-up may be
-- Why     Of the idle workers of a queue one, the leader, sleeps until the next due instant; a job that is due
--         earlier pushes one token, which one blocked worker gets. So a thousand idle workers cause no stampede.
--- @include hints
--- @include mail
local WAKE_SLACK_MS = 200

local push_token, wake, hand_on, step_down
do
  function push_token(queue, deputy_too)
    local wake_key = prefix .. 'wake:' .. queue
    if call('LLEN', wake_key) == 0 then
      call('RPUSH', wake_key, '1')
      if deputy_too then
        call('RPUSH', wake_key, '1')
      end
      call('PEXPIRE', wake_key, 60000)
    end
  end

  local function wake_for(queue, at_ms)
    local idle_key = prefix .. 'idle:' .. queue
    local awaited = whole(call('HGET', idle_key, 'until_ms'))
    if awaited and at_ms >= awaited and now_ms <= awaited + WAKE_SLACK_MS then
      return
    end
    -- The leader and its deputy sleep too long for this: the worker that takes the token leads. A job that is not due
    -- yet gets a new deputy as well.
    call('HDEL', idle_key, 'leader', 'deputy', 'deputy_ms')
    call('HSET', idle_key, 'until_ms', at_ms)
    call('PEXPIRE', idle_key, 60000)
    push_token(queue, at_ms > now_ms)
  end

  -- A job of this queue is due at `at_ms`.
  function wake(queue, at_ms)
    on_hints(wake_for, queue, at_ms)
  end

  local function hand_over(queue, worker)
    if queue == 'local:' .. worker then
      return -- no other worker serves it
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

  -- This worker leaves due work behind, or stops watching the queue: another should look.
  function hand_on(queue, worker)
    on_hints(hand_over, queue, worker)
  end

  local function step_off(queue, worker)
    local idle = call('HMGET', prefix .. 'idle:' .. queue, 'leader', 'deputy', 'until_ms')
    if idle[1] == worker or idle[2] == worker or (idle[3] and not idle[1]) then
      hand_over(queue, worker)
    end
  end

  -- As `hand_on`, if anybody relies on this worker: it leads, is the deputy, or may be the one who took the token.
  function step_down(queue, worker)
    on_hints(step_off, queue, worker)
  end
end
