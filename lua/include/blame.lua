-- blame: what this worker tells of a stall of its event loop, now that it is back.
-- Needs   stalled (of poll), stall
-- Gives   blame: excuse_lost(run_id, key, fence), add_to(fields)
--
-- A stall: 1 job id, 2 task, 3 ms, 4 text, 5 run id or false. The event has the run's id beside it, since earlier
-- versions read a list of four.
local blame = {}

do
  local report = stalled ~= '' and cmsgpack.unpack(stalled) or { false }
  local blamed = {}
  for i = 2, #report do
    blamed[report[i]] = true
  end

  -- This worker lost the run, and is back. That counts as a recovery only if the run itself blocked the event loop.
  function blame.excuse_lost(run_id, key, fence)
    if not blamed[run_id] then
      pcall(stall.excuse, key, fence) -- its hash may be anything by now
    end
  end

  -- The stall is an event: see `stalled` in redsched/client/events.py.
  function blame.add_to(fields)
    if report[1] then
      fields[#fields + 1] = 'stalled'
      local run_id = table.remove(report[1], 5)
      fields[#fields + 1] = cmsgpack.pack(report[1])
      if run_id then
        fields[#fields + 1] = 'stalled_run'
        fields[#fields + 1] = run_id
      end
    end
  end
end
