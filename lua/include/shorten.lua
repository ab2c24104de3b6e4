-- shorten: leases whose expiry is later than any lease lasts, which would never be recovered.
-- Needs   call, now_ms, lease_ms
-- Gives   shorten(key, limit)
-- Why     No lease is that long: another program wrote it. A worker that is alive renews its own, and the others end. A
--         lease for which a process vouches may last a week more.
local function shorten(key, limit)
  local LONGEST_MS = 700000000
  local from = string.format('%.0f', now_ms + LONGEST_MS)
  for _, run_id in ipairs(call('ZRANGE', key, from, '+inf', 'BYSCORE', 'LIMIT', 0, limit)) do
    call('ZADD', key, now_ms + lease_ms, run_id)
  end
end
