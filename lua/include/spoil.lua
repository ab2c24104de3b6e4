-- spoil: what is due, or leased, and malformed: of a wrong type, or with fields that are not numbers.
-- Needs   job, event, bury, call
-- Gives   spoil(id, problem)
-- State   scheduled | running -> dead
-- Why     A script that raises changes nothing, so a single entry of that kind would stop every poll of the fleet.
local function spoil(id, problem)
  local own = job_of(id)
  local text = string.sub(type(problem) == 'table' and problem.err or tostring(problem), 1, 300)
  event('dead', own or id, 'unreadable', nil, nil, 1, false, text, id)
  pcall(bury, id, own, 'unreadable', text) -- without effect if its key is not a hash
end
