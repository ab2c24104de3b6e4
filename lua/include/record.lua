-- record: the parts of a job's record that a script needs when it ends a run that no worker reported.
-- Needs   (nothing)
-- Gives   about(record) -> task or '', result_ttl_ms or false
-- Why     Redis' cmsgpack knows no binary strings, and a payload is one: so the parts before and after it are cut out.

-- The text or bytes at a place, and where they end.
local function part_at(data, at)
  local code, a, b, c, d = string.byte(data, at, at + 4)
  local head, length = 1, 0
  if code >= 0xa0 and code <= 0xbf then
    length = code - 0xa0
  elseif code == 0xd9 or code == 0xc4 then
    head, length = 2, a
  elseif code == 0xda or code == 0xc5 then
    head, length = 3, a * 256 + b
  elseif code == 0xdb or code == 0xc6 then
    head, length = 5, ((a * 256 + b) * 256 + c) * 256 + d
  end
  return string.sub(data, at + head, at + head + length - 1), at + head + length
end

local function read_record(record)
  local task, at, options
  if string.byte(record, 2) == 2 then -- sealed: seal, body, payload
    at = select(2, part_at(record, 3))
    local body = cmsgpack.unpack((part_at(record, at)))
    task, options = body[1], body[3]
  else -- task, name, payload, options
    task, at = part_at(record, 3)
    at = select(2, part_at(record, at))
    at = select(2, part_at(record, at))
    options = cmsgpack.unpack(string.sub(record, at))
  end
  return task, type(options) == 'table' and tonumber(options.result_ttl_ms) or false
end

local function about(record)
  local fine, task, ttl_ms = pcall(read_record, record)
  return fine and type(task) == 'string' and task or '', fine and ttl_ms
end
