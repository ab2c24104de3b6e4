-- once: a request that is sent again gets the reply of the first time, and changes nothing.
-- Needs   prefix, request, confirmed, call
-- Gives   first_reply, answer()
-- Why     A client cannot know whether a request whose reply was lost was carried out. The reply is kept until
--         the client confirms that it got it (with its next request), or for ten minutes.
local client, sequence = string.match(request, '^(.+):(%d+)$')
local requests_key = prefix .. 'requests:' .. client
local first_reply = call('HGET', requests_key, sequence)
if first_reply then
  first_reply = cmsgpack.unpack(first_reply)
end

local function answer(reply)
  if confirmed ~= '' then
    local done = {}
    for number in string.gmatch(confirmed, '%d+') do
      done[#done + 1] = number
    end
    call('HDEL', requests_key, unpack(done))
  end
  call('HSET', requests_key, sequence, cmsgpack.pack(reply))
  call('PEXPIRE', requests_key, 600000)
  return reply
end
