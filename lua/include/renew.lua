-- renew: extend the leases of the runs that a worker still holds.
-- Needs   job, blame, worker, leases, lease_ms
-- Gives   renew(rows) -> runs that are lost (the token was refused), runs that are to stop (cancelled)
-- State   running -> running

-- Rows are flat: run id, fence, run id, fence, ...
local function renew(rows)
  local lost, stop, extended = {}, {}, {}
  local until_ms = now_ms + lease_ms
  for i = 1, #rows, 2 do
    local run_id = rows[i]
    local own = job_of(run_id)
    local key = own and run_key(run_id) or job_key(run_id)
    local h = redis.pcall('HMGET', key, 'fence', 'owner', 'cancel', 'leave')
    if not h[1] or tonumber(h[1]) ~= rows[i + 1] or h[2] ~= worker then
      lost[#lost + 1] = run_id
      blame.excuse_lost(run_id, key, rows[i + 1])
    else
      if h[3] and not h[4] then
        stop[#stop + 1] = run_id
      end
      extended[#extended + 1] = until_ms
      extended[#extended + 1] = run_id
      if own then
        redis.pcall('ZADD', prefix .. 'live:' .. own, 'XX', until_ms, run_id)
      end
    end
  end
  in_chunks('ZADD', leases, extended)
  return lost, stop
end
