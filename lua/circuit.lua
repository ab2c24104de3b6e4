-- circuit: a circuit breaker that all processes share: whether a call may begin, and how it ended.
-- Flags   none
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         circuit     str    name of the circuit
--         verb        str    enter, success, failure or leave (neither: the call was abandoned)
--         token       str    names the call; a resent request has the same
--         threshold   int    failures in a row that open it
--         recovery_ms int    how long it stays open
--         successes   int    trial calls in a row that close it
-- Derives circuit job
-- Reply   OK now_us state wait_ms
-- Again   the same: a failure and a trial are counted by their token
-- Cost    O(threshold + successes)
--
-- Closed: no hash, or one field `f:<token>` for each failure since the last success. Open: `open_until`.
-- Half open: `open_until` has passed; `t:<token>` holds the expiry of a trial call, `s:<token>` marks one that passed.
-- enter answers `closed` or `half_open` if the call may begin, and `open` if it may not, for `wait_ms`.
--- @include clock
local key = prefix .. 'circuit:' .. circuit
local needed, recovery = tonumber(successes), tonumber(recovery_ms)
local failures, trials, passed = 0, 0, 0
local open_until, is_trial = nil, false
local flat = call('HGETALL', key)
for i = 1, #flat, 2 do
  local kind = string.sub(flat[i], 1, 2)
  if flat[i] == 'open_until' then
    open_until = whole(flat[i + 1]) or now_ms
  elseif kind == 'f:' then
    failures = failures + 1
  elseif kind == 's:' then
    passed = passed + 1
  elseif (whole(flat[i + 1], 0, now_ms + math.max(recovery, 60000)) or 0) > now_ms then
    trials = trials + 1
    is_trial = is_trial or flat[i] == 't:' .. token
  else
    call('HDEL', key, flat[i]) -- its trial call never reported: its place is free
  end
end

local function keep()
  call('PEXPIRE', key, math.max(86400000, 10 * recovery)) -- not used for this long: it starts closed again
  close_clock()
end

local function open()
  call('DEL', key)
  call('HSET', key, 'open_until', now_ms + recovery)
  keep()
  return { 'OK', now_us, 'open', recovery }
end

if not open_until then
  if verb == 'success' and failures > 0 then
    call('DEL', key)
  elseif verb == 'failure' then
    if failures + call('HSETNX', key, 'f:' .. token, 1) >= tonumber(threshold) then
      return open()
    end
    keep()
  end
  return { 'OK', now_us, 'closed', 0 }
end
if open_until > now_ms + recovery then
  -- No circuit is open for longer: another wrote that, or a policy of this name that waits longer.
  open_until = now_ms + recovery
  call('HSET', key, 'open_until', open_until)
  keep()
end
if now_ms < open_until then
  return { 'OK', now_us, 'open', open_until - now_ms }
end
if verb == 'enter' then
  if not is_trial and trials + passed >= needed then
    -- Enough are trying: look again soon.
    return { 'OK', now_us, 'open', math.max(1, math.min(1000, recovery)) }
  end
  call('HSET', key, 't:' .. token, now_ms + math.max(recovery, 60000))
  keep()
elseif is_trial then
  if verb == 'failure' then
    return open()
  end
  call('HDEL', key, 't:' .. token)
  if verb == 'success' then
    if passed + 1 >= needed then
      call('DEL', key)
      close_clock()
      return { 'OK', now_us, 'closed', 0 }
    end
    call('HSET', key, 's:' .. token, 1)
  end
end
return { 'OK', now_us, 'half_open', 0 }
