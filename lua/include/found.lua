-- found: how a run ended, by its id.
-- Needs   clock, prefix, call, whole, record_max
-- Gives   read(command, ...) -> text or false; is_denied() -> whether this user may not read outcomes
--         outcome_of(id, part, mark) -> what is kept or false; is_much() -> whether it is time to answer
-- Why     Outcomes are in numbered hashes (see outcomes). There most of them have a field; plain runs that are done are in
--         the rows that their worker brought (see finish), by the name of these rows. In which, an index tells: strings,
--         in parts, to each of which a poll appended `name \n marks \n`. Marks take four bytes, and none is a line's end.
--         An index is read backwards, for of several runs of one id the last one counts. Other ids may have the same mark.
--         Another program may have written anything here: then nothing is found.
local HASHES, MARK_BYTES, PART_BYTES = 32, 4, 1048576
local MOST_TRIES, MUCH_BYTES, FIELDS_BYTES, ROWS_BYTES = 64, 8388608, 50000, 30000 -- the cost of other work, in bytes of reading
local newest = whole(call('HGET', clock, 'outcomes'), 0, 1099511627776) or 0
local denied, searched = false, 0
local loaded, is_there = {}, {}

-- A user of an older recipe may not read outcomes: then only the events say how a run ended.
local function read(command, ...)
  local found = redis.pcall(command, ...)
  denied = denied or (type(found) == 'table' and found.err and not string.find(found.err, 'WRONGTYPE', 1, true))
  return type(found) == 'string' and found ~= '' and found or false
end

local function is_denied()
  return denied
end

-- Where all runs are plain, there is none of these hashes.
local function field_of(number, id)
  local key = prefix .. 'ended:' .. number
  if is_there[key] == nil then
    is_there[key] = redis.pcall('EXISTS', key) ~= 0
  end
  return is_there[key] and read('HGET', key, id)
end

-- A part of an index, from its end to its beginning.
local function part_of(number, part)
  local key = prefix .. 'index:' .. number .. ':' .. string.format('%.0f', part)
  if loaded[key] == nil then
    loaded[key] = string.reverse(read('GETRANGE', key, -PART_BYTES, -1) or '')
    searched = searched + 2 * #loaded[key]
  end
  return loaded[key]
end

-- The text of an outcome, from one of the rows of settle that ends nothing but this run.
local function text_of(row, id)
  if type(row) ~= 'table' or row[1] ~= id or row[3] ~= 'done' or type(row[8]) ~= 'string' then
    return nil
  end
  return string.format('%.0f %.0f %.0f ', row[4], row[6], row[7]) .. row[8]
end

-- Its row, of 13 parts, begins with its id. One of 14 is not to be found.
local function text_in(rows, id)
  local head = #id < 32 and string.char(160 + #id) or string.char(218, math.floor(#id / 256), #id % 256)
  local at = 1
  for _ = 1, MOST_TRIES do
    at = string.find(rows, head .. id, at, true)
    if not at then
      return nil
    end
    if string.byte(rows, at - 1) == 157 then
      local fine, _, row = pcall(cmsgpack.unpack_one, rows, at - 2)
      local is_its, text = pcall(text_of, fine and row, id)
      if is_its and text then
        return text
      end
    end
    at = at + 1
  end
end

-- From the rows of this name, if those of the id are not recorded elsewhere.
local function text_under(number, name, id)
  local found = redis.pcall('HMGET', prefix .. 'batches:' .. number, name, 'except ' .. name)
  searched = searched + ROWS_BYTES
  if not found[1] then
    return nil
  end
  local fine, left = pcall(cmsgpack.unpack, found[2] or '')
  for _, other in ipairs(fine and type(left) == 'table' and left or {}) do
    if other == id then
      return nil
    end
  end
  return text_in(found[1], id)
end

local function indexed(number, id, part, mark, tries)
  local index, at = part_of(number, part), 0
  while tries.left > 0 do
    at = string.find(index, mark, at + 1, true)
    if not at then
      break
    end
    tries.left = tries.left - 1
    local stop = string.find(index, '\n', at, true)
    local name = stop and (stop - at) % MARK_BYTES == 0 and string.match(index, '^%d+', stop + 1)
    local text = name and #name <= 16 and text_under(number, string.reverse(name), id)
    if text then
      return text
    end
  end
  searched = searched + #index
  return false
end

-- When it ended, of what either way of keeping it says.
local function when_of(packed)
  local fire, late, duration = string.match(packed, '^(%-?%d+) (%-?%d+) (%-?%d+) ')
  if fire then
    return tonumber(fire) + tonumber(late) + tonumber(duration)
  end
  local fine, row = pcall(cmsgpack.unpack, packed)
  return fine and type(row) == 'table' and tonumber(row[9]) or 0
end

-- Without `mark`, not among plain runs.
local function outcome_of(id, part, mark)
  local tries = { left = MOST_TRIES }
  searched = searched + FIELDS_BYTES
  for number = newest, math.max(1, newest - HASHES + 1), -1 do
    number = string.format('%.0f', number)
    local packed = not denied and field_of(number, id)
    local text = mark and not denied and indexed(number, id, part, mark, tries)
    if text and (not packed or when_of(packed) <= when_of(text)) then
      return text
    elseif packed then
      return packed
    end
  end
  return read('GETRANGE', prefix .. 'outcome:' .. id, 0, record_max)
end

local function is_much()
  return searched > MUCH_BYTES
end
