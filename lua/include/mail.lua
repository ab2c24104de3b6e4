-- mail: a message for one worker.
-- Needs   prefix, call
-- Gives   tell()

-- It is a hint only: a request that must not be lost is repeated when leases are renewed.
local function tell(worker, message)
  local mail_key = prefix .. 'mail:' .. worker
  if type(redis.pcall('RPUSH', mail_key, message)) == 'table' then
    call('DEL', mail_key) -- it was not a list
    call('RPUSH', mail_key, message)
  end
  call('PEXPIRE', mail_key, 60000)
end
