-- inspect: jobs as they are at one instant. Reads only.
-- Flags   no-writes
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         ids         bytes  msgpack list of job ids or run ids
--         record_max  int    bytes; of a job that takes more, only the length is told, as its record
-- Derives job run due parked live waiting
-- Reply   OK now_us jobs seen; for each id that exists: id, fields (flat), due or false, running, waiting; seen = of
--         how many ids: call again for the rest
-- Again   reads again
-- Cost    O(ids)
--- @include clock
--- @include job
--- @include unpark
--- @include readable
local found, seen = {}, 0
for _, id in ipairs(cmsgpack.unpack(ids)) do
  if is_enough() then
    break
  end
  seen = seen + 1
  local own = job_of(id)
  local fields = redis.pcall('HGETALL', own and run_key(id) or job_key(id))
  if #fields > 0 then
    local queue, parked = nil, ''
    for i = 1, #fields, 2 do
      if fields[i] == 'queue' and #fields[i + 1] < 10000 then
        queue = fields[i + 1]
      elseif fields[i] == 'parked' and #fields[i + 1] < 10000 then
        parked = fields[i + 1]
      end
    end
    local whole = readable(table.concat(fields))
    if type(whole) == 'number' then
      fields = { 'record', whole }
    end
    found[#found + 1] = {
      id, fields, call('ZSCORE', due_key(queue), id) or (parked ~= '' and call('ZSCORE', parked_key(parked), id)),
      call('ZCOUNT', prefix .. 'live:' .. id, '(' .. string.format('%.0f', now_ms), '+inf'),
      call('SCARD', prefix .. 'waiting:' .. id),
    }
  end
end
return { 'OK', now_us, found, seen }
