-- forget: remove a consumer of a stream from its group, if it has no pending events.
-- Flags   allow-oom
-- State   (none)
-- KEYS    stream      STREAM the user's stream
-- ARGV    group       str    its consumer group
--         consumer    str    the consumer that leaves
-- Reply   OK left; left = 1: it was removed
-- Again   changes nothing further
-- Cost    O(1)
--
-- One step, because Redis deletes a consumer's pending events with the consumer: an event that reached it between two
-- steps (a read that was cancelled here, but not yet in Redis) would never be handled.
if #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) > 0 then
  return { 'OK', 0 }
end
redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
return { 'OK', 1 }
