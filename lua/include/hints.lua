-- hints: who sleeps until when, and the tokens that wake: what is lost with them is some time, never a job.
-- Needs   prefix, call
-- Gives   on_hints(act, queue, ...)

-- What is kept here is a hint. What another wrote in its place, of another type or without sense, is thrown away.
local function on_hints(act, queue, ...)
  local fine, given = pcall(act, queue, ...)
  if fine then
    return given
  end
  call('DEL', prefix .. 'idle:' .. queue, prefix .. 'wake:' .. queue)
  return act(queue, ...)
end
