-- finish: plain runs that are done (see claim), and of which nothing else has become known meanwhile: the usual case.
-- Needs   job, outcomes, worker; settled, done, others (of poll)
-- Gives   finish(released, gone) -> the rows of `settled` that are left to do, and adds run ids and keys to the lists
-- State   running -> (ended)
-- Why     Of these runs the token says all: their rows, which take as long to unpack as the rest of it, stay packed.
local function finish(released, gone)
  local rest = {}
  local pairs = done ~= '' and cmsgpack.unpack(done) or {}
  for i = 1, #pairs, 3 do
    local key = job_key(pairs[i])
    local h = redis.pcall('HMGET', key, 'fence', 'owner') -- of another type: not its run any more
    if h[1] and tonumber(h[1]) == pairs[i + 1] and h[2] == worker and call('HLEN', key) == 4 then
      released[#released + 1] = pairs[i]
      gone[#gone + 1] = key
      if pairs[i + 2] ~= '' then
        note_outcome(pairs[i], pairs[i + 2])
      end
    else
      rest[#rest + 1] = (i + 2) / 3
    end
  end
  if #rest == 0 and others == '0' then
    return rest
  end
  local all = cmsgpack.unpack(settled)
  for i = 1, #rest do
    rest[i] = all[rest[i]]
  end
  for i = #pairs / 3 + 1, #all do
    rest[#rest + 1] = all[i]
  end
  return rest
end
