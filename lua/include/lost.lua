-- lost: the fires that a job or a run leaves behind which a script ends alone.
-- Needs   job, call, now_ms
-- Gives   lost: of_job(job, score), of_member(run_id, own, score) -> first, last, count (nil = not counted)
-- Why     Only a client could count the fires of a schedule; but that only one is overdue, the fire after it tells.
local lost = {}

-- Of a job where none is overdue it is the next one.
function lost.of_job(job, score)
  local first = tonumber(job.periodic and job.next_ms or job.fire_ms or score or nil)
  local after = tonumber(job.after_ms or nil)
  if not first or not job.periodic or first >= now_ms or (after and (after == 0 or after > now_ms)) then
    return first, first, 1
  end
  return first, now_ms, nil
end

-- Its hash may be anything.
function lost.of_member(run_id, own, score)
  local key = own and run_key(run_id) or job_key(run_id)
  local h = redis.pcall('HMGET', key, 'periodic', 'next_ms', 'after_ms', 'fire_ms', 'fires')
  if own then
    local fine, first, last, count = pcall(span_of, h[4] or score, h[5] or nil)
    return fine and first or score, fine and last or score, fine and count or 1
  end
  return lost.of_job({ periodic = h[1], next_ms = h[2], after_ms = h[3], fire_ms = h[4] }, score)
end
