-- stall: workers whose event loop stands still while their process lives, and what that means for their runs.
-- Needs   prefix, call, now_ms, leases
-- Gives   stall: voucher_of(worker), goes_on(), was_stalled(), may_excuse(excused), excuse(key, fence)
-- Why     A run that a worker lost because it stood still did nothing wrong, unless it is the one that blocked the
--         worker. So its recovery is not counted: at once, where it is known by then what blocks the worker; or later,
--         when the worker comes back. The bound is for a run that blocks its workers without being caught.
local stall = {}

do
  local EXCUSES = 20
  local VOUCHED_AHEAD_MS = 604800000 -- who vouches for longer is another

  local vouchers = {}

  -- Until when its process vouches for a worker (0 = it does not), and the run that blocks it ('' = not known).
  function stall.voucher_of(owner)
    local known = vouchers[owner]
    if not known then
      local h = redis.pcall('HMGET', prefix .. 'worker:' .. owner, 'vouched_ms', 'blocker')
      known = { until_ms = whole(h[1], 0, now_ms + VOUCHED_AHEAD_MS) or 0, blocker = h[2] or '' }
      vouchers[owner] = known
    end
    return known
  end

  -- Whether the lease goes on, because the process of its worker vouches for it.
  function stall.goes_on(run_id, own, voucher)
    if voucher.until_ms <= now_ms then
      return false
    end
    call('ZADD', leases, 'XX', voucher.until_ms, run_id)
    if own then
      call('ZADD', prefix .. 'live:' .. own, 'XX', voucher.until_ms, run_id)
    end
    return true
  end

  -- Whether the worker stood still for longer than its process vouched: it has not renewed the lease since.
  function stall.was_stalled(run_id, voucher)
    return voucher.until_ms > 0 and (tonumber(call('ZSCORE', leases, run_id) or nil) or 0) <= voucher.until_ms
  end

  function stall.may_excuse(excused)
    return (whole(excused) or 0) < EXCUSES
  end

  -- A worker that lost a run is back, and did not lose it through the run's own fault. `key` is the run's hash.
  function stall.excuse(key, fence)
    local h = call('HMGET', key, 'lost', 'recoveries', 'excused', 'fence', 'attempt', 'state')
    local mark = string.format('%.0f ', fence)
    local from, to = string.find(h[1] or '', mark, 1, true)
    if not from or h[6] == 'dead' or not stall.may_excuse(h[3]) then
      return
    end
    local others = string.sub(h[1], 1, from - 1) .. string.sub(h[1], to + 1)
    call('HSET', key, 'recoveries', math.max(0, (whole(h[2]) or 0) - 1))
    if others == '' then
      call('HDEL', key, 'lost')
    else
      call('HSET', key, 'lost', others)
    end
    call('HINCRBY', key, 'excused', 1)
    if not h[4] and (whole(h[5]) or 0) > 0 then
      call('HINCRBY', key, 'attempt', -1) -- it waits still: it begins the same attempt again
    end
  end
end
