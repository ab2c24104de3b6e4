-- fleet: what the live workers have, as they say of themselves with their heartbeats.
-- Needs   prefix, call, now_ms
-- Gives   only_older_have(), is_parking_served()
-- Why     A worker of a version that does not park neither says `parks` nor looks at what is parked. Where only such a
--         worker can run something, it has to come back into `due`.
local SILENT_MS = 60000

local function live_workers()
  return call('ZRANGE', prefix .. 'workers', '(' .. string.format('%.0f', now_ms - SILENT_MS), '+inf', 'BYSCORE')
end

local function has(list, name)
  for _, one in ipairs(type(list) == 'table' and list or {}) do
    if one == name then
      return true
    end
  end
  return false
end

-- Whether a worker may have what a run needs, as far as it says.
local function may_have(info, need, queue)
  if not has(info.queues, queue) then
    return false
  end
  local kind, name = string.match(need, '^(%l+):(.*)$')
  if kind == 'executor' then
    return info.executors == nil or has(info.executors, name)
  elseif kind ~= 'task' then
    return kind == 'key' -- a newer record is never read by an older worker; which keys one has, it does not say
  elseif has(info.tasks, name) then
    return true
  end
  for _, package in ipairs(type(info.packages) == 'table' and info.packages or {}) do
    if string.sub(name, 1, #tostring(package) + 1) == tostring(package) .. '.' then
      return true
    end
  end
  return false
end

-- Whether what is parked is looked at by a live worker other than `but`.
local function is_parking_served(but)
  for _, id in ipairs(live_workers()) do
    if id ~= but and call('HEXISTS', prefix .. 'worker:' .. id, 'parks') == 1 then
      return true
    end
  end
  return false
end

-- Whether live workers may have what is needed, but none that looks at what is parked.
local function only_older_have(need, queue)
  local infos, older = {}, false
  for _, id in ipairs(live_workers()) do
    local said = call('HMGET', prefix .. 'worker:' .. id, 'info', 'parks')
    infos[#infos + 1], older = said, older or (said[1] and not said[2])
  end
  if not older then
    return false
  end
  local found = false
  for _, said in ipairs(infos) do
    local fine, info = pcall(cmsgpack.unpack, said[1] or '')
    if fine and type(info) == 'table' and may_have(info, need, queue) then
      if said[2] then
        return false
      end
      found = true
    end
  end
  return found
end
