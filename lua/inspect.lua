-- inspect: jobs as they are at one instant. Reads only.
-- Flags   no-writes
-- State   (none)
-- KEYS    clock       HASH   the instant
-- ARGV    prefix      str    hash tag of the shard
--         ids         bytes  msgpack list of job ids or run ids
-- Derives job run due live waiting
-- Reply   OK now_us jobs; for each id that exists: id, fields (flat), due or false, running, waiting
-- Again   reads again
-- Cost    O(ids)
--- @include clock
--- @include job
local found = {}
for _, id in ipairs(cmsgpack.unpack(ids)) do
  local own = job_of(id)
  local fields = call('HGETALL', own and run_key(id) or job_key(id))
  if #fields > 0 then
    local queue
    for i = 1, #fields, 2 do
      if fields[i] == 'queue' then
        queue = fields[i + 1]
      end
    end
    found[#found + 1] = {
      id, fields, call('ZSCORE', due_key(queue), id),
      call('ZCOUNT', prefix .. 'live:' .. id, '(' .. string.format('%.0f', now_ms), '+inf'),
      call('SCARD', prefix .. 'waiting:' .. id),
    }
  end
end
return { 'OK', now_us, found }
