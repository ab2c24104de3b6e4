-- once: a request that is sent again gets the reply of the first time, and changes nothing.
-- Needs   prefix, request, confirmed, call
-- Gives   first_reply, answer(); client, below: of the request
-- Why     A client cannot know whether a request whose reply was lost was carried out. The reply is kept until
--         the client confirms that it got it (with a later request), or for ten minutes. A copy that the network
--         brings after that does nothing: its reply is not awaited. It is LATE. A client that gets this as its reply
--         confirmed nothing of the kind: another wrote it, and the client asks again under a name that is new.
--         Requests of an event of a stream are not confirmed: `confirmed` is then minus the ms that they are kept for.
--         What was refused changed nothing, so an event may ask for it again: that is not kept.
local CONFIRMED_AT_ONCE = 16 -- one by one takes a quarter of the time of storing a job
local CONFIRMED_AT_MOST = 100000 -- of more, the rest expires
local client, sequence = string.match(request, '^(.+):(%d+)$')
local requests_key = prefix .. 'requests:' .. client
local seen = call('HMGET', requests_key, sequence, 'confirmed')
local first_reply
do
  local fine, kept = pcall(cmsgpack.unpack, seen[1] or '')
  first_reply = fine and type(kept) == 'table' and type(kept[1]) == 'string' and kept or nil
end
local below = tonumber(confirmed)
local confirmed_before = below >= 0 and whole(seen[2]) or nil
local keep_ms = below < 0 and -below or 600000
if first_reply then
  call('PEXPIRE', requests_key, keep_ms) -- a write on this connection as well, for WAIT speaks of no others
end
if not first_reply and confirmed_before and tonumber(sequence) < confirmed_before then
  first_reply = { 'LATE', now_us }
end

local function answer(reply)
  if below < 0 and reply[1] ~= 'OK' then
    return reply
  end
  local fields = { sequence, cmsgpack.pack(reply) }
  if not confirmed_before or below - confirmed_before >= CONFIRMED_AT_ONCE then
    for from = math.max(confirmed_before or below, below - CONFIRMED_AT_MOST), below - 1, 1000 do
      local over = {}
      for number = from, math.min(from + 999, below - 1) do
        over[#over + 1] = number
      end
      call('HDEL', requests_key, unpack(over))
    end
    fields[3], fields[4] = 'confirmed', math.max(below, confirmed_before or 0)
  end
  call('HSET', requests_key, unpack(fields))
  call('PEXPIRE', requests_key, keep_ms)
  return reply
end
