-- dropped: fires that a change of their job leaves behind, each with its reason (promise 7).
-- Needs   job, event, now_ms, call
-- Gives   has_moved(job, score, cursor), leaves_behind(job), drop(id, spans), drop_once(job, score) -> fire or nil
-- Why     Only the client can count the fires of a schedule. It reads a job, computes the spans, and sends them along
--         with its cursor; a fire that was claimed meanwhile has moved that, and nothing is changed: it is read again.
--
-- A cursor: {next_ms or false, paused_ms or false, score in `due` or false (of a periodic job always)}
-- A span:   {reason, first_ms, last_ms, count or false}

local LATEST_MS = 253370764799999 -- as the client reads a score (redsched/store/queries.py)

local function has_moved(job, score, cursor)
  local at = not job.periodic and score and math.floor(math.max(0, math.min(tonumber(score), LATEST_MS))) or false
  return (job.next_ms or false) ~= cursor[1] or (job.paused_ms or false) ~= cursor[2] or at ~= cursor[3]
end

-- Whether ending or replacing a periodic job now leaves fires behind that only a client can count.
local function leaves_behind(job)
  if not job.periodic or job.state == 'dead' then
    return false
  end
  local since = job.state == 'paused' and (job.paused_ms or job.paused_from) or job.next_ms
  return since and (tonumber(since) or 0) <= now_ms
end

local function drop(id, spans)
  for _, s in ipairs(spans or {}) do
    event('dropped', id, s[1], s[2], s[3], s[4])
  end
end

-- The only fire of a one-shot job, if it is overdue, waits for another attempt, or is kept by a pause.
local function drop_once(job, score)
  if job.periodic or job.state == 'dead' then
    return nil
  end
  local fire = job.state == 'paused' and job.paused_ms or score or nil
  if fire and job.fire_ms and not job.fence and job.state ~= 'paused' then
    return job.fire_ms
  end
  return fire and tonumber(fire) <= now_ms and fire or nil
end
