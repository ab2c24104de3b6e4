-- finish: plain runs that are done (see claim), and of which nothing else has become known meanwhile: the usual case.
-- Needs   job, outcomes, worker; settled, done, done_bytes, index, others (of poll)
-- Gives   finish(released, gone) -> the rows of `settled` that are left to do, and adds run ids and keys to the lists
-- State   running -> (ended)
-- Why     Of these runs the token says all: their rows, which take as long to unpack as the rest of it, stay packed.
--         They are kept as they came, for those who ask how a run ended (see found): a field for each would take longer
--         than all else that is done for it.
local PARTS, MARK_BYTES, PART_BYTES = 8, 4, 524288

-- An index is the number of marks in each of its parts, then the marks.
local function count_of(part)
  local a, b, c, d = string.byte(index, 4 * part - 3, 4 * part)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- To the index of these hashes. Returns whether a part of it is long enough; nil where it cannot be written.
local function add_to_index(number, name)
  local at, is_long = 4 * PARTS + 1, false
  for part = 1, PARTS do
    local bytes = count_of(part) * MARK_BYTES
    if bytes > 0 then
      local piece = name .. '\n' .. string.sub(index, at, at + bytes - 1) .. '\n'
      local key = prefix .. 'index:' .. number .. ':' .. part
      local length = redis.pcall('APPEND', key, piece)
      if type(length) ~= 'number' then
        return nil
      elseif length == #piece then
        redis.pcall('PEXPIRE', key, OUTCOME_TTL_MS + OUTCOME_TURN_MS)
      end
      at, is_long = at + bytes, is_long or length > PART_BYTES
    end
  end
  return is_long
end

-- Where an index cannot be written, each has a field.
local function keep_apart(number, rows, left)
  local is_left = {}
  for _, id in ipairs(left) do
    is_left[id] = true
  end
  for _, row in ipairs(cmsgpack.unpack(rows)) do
    local run_id, _, _, fire_ms, _, lateness_ms, duration_ms, task, _, _, _, _, _, ttl_ms = unpack(row, 1, 14)
    if not is_left[run_id] and not ttl_ms then
      local text = string.format('%.0f %.0f %.0f ', fire_ms, lateness_ms, duration_ms) .. task
      redis.pcall('HSET', prefix .. 'ended:' .. number, run_id, text)
      redis.pcall('PEXPIRE', prefix .. 'ended:' .. number, OUTCOME_TTL_MS)
    end
  end
end

-- `left`: ids of rows that are not done, or that are recorded elsewhere.
local function keep_rows(rows, left)
  local count = #index / MARK_BYTES - PARTS
  note_rows(#rows * 1.1 + 2 * MARK_BYTES * count + 14 * math.min(PARTS, count) + 70, function(number, name)
    local is_long = add_to_index(number, name)
    if is_long == nil then
      keep_apart(number, rows, left)
      return false
    end
    local except = #left > 0 and { 'except ' .. name, cmsgpack.pack(left) } or {}
    redis.pcall('HSET', prefix .. 'batches:' .. number, name, rows, unpack(except))
    redis.pcall('PEXPIRE', prefix .. 'batches:' .. number, OUTCOME_TTL_MS)
    return is_long
  end)
end

local function finish(released, gone)
  local rest, left = {}, {}
  local pairs = done ~= '' and cmsgpack.unpack(done) or {}
  for i = 1, #pairs, 2 do
    local key = job_key(pairs[i])
    local fence, owner = unpack(redis.pcall('HMGET', key, 'fence', 'owner')) -- of another type: none
    if fence and tonumber(fence) == pairs[i + 1] and owner == worker and call('HLEN', key) == 4 then
      released[#released + 1] = pairs[i]
      gone[#gone + 1] = key
    else
      rest[#rest + 1] = (i + 1) / 2
      left[#left + 1] = pairs[i]
    end
  end
  if index ~= '' and #gone > 0 then
    keep_rows(string.sub(settled, 1, done_bytes), left)
  end
  if #rest == 0 and others == '0' then
    return rest
  end
  local all = cmsgpack.unpack(settled)
  for i = 1, #rest do
    rest[i] = all[rest[i]]
  end
  for i = #pairs / 2 + 1, #all do
    rest[#rest + 1] = all[i]
  end
  return rest
end
