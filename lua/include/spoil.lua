-- spoil: what is due, or leased, and is not as redsched makes it: of another type, with fields that are no numbers.
-- Needs   job, event, bury, call
-- Gives   spoil(id, problem)
-- State   scheduled | running -> dead
-- Why     A script that raises changes nothing, so a single entry of that kind would stop every poll of the fleet.
local function spoil(id, problem)
  local own = job_of(id)
  local text = string.sub(type(problem) == 'table' and problem.err or tostring(problem), 1, 300)
  event('dead', own or id, 'unreadable', nil, nil, 1, false, text, id)
  pcall(bury, id, own, 'unreadable', text) -- in vain where its key is no hash
end
