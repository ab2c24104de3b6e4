-- forget: take a consumer of a stream from its group, if it owes no event.
-- Flags   allow-oom
-- State   (none)
-- KEYS    stream      STREAM a stream of the user's
-- ARGV    group       str    its consumer group
--         consumer    str    who leaves
-- Reply   OK left; left = 1: it was taken out
-- Again   changes nothing further
-- Cost    O(1)
--
-- One step, since Redis forgets what a consumer owes with the consumer: an event that reached it between two steps (a
-- read that was given up here, and not yet there) would never be handled.
if #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) > 0 then
  return { 'OK', 0 }
end
redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
return { 'OK', 1 }
