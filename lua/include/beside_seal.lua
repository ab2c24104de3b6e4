-- beside_seal: what decides a promise and is not in the signed record, for the worker to compare with that.
-- Needs   job, call
-- Gives   beside_seal(record, job, run), beside_seal_of_run(record, own, run)
-- Why     The scripts go by fields of a job's hash, which a seal does not cover: see redsched/worker/agreement.py.
--
-- It is: delivery, max_instances, max_recoveries, runs_left, periodic, and 1 where a worker lost the run. Of a run that keeps
-- a record of another definition of its job it is the last alone; of a record without a seal it is nothing.
local function brief(field)
  return field and string.sub(field, 1, 40) or false
end

local SEALED = 2
local function beside_seal(record, job, run)
  if string.byte(record, 2) ~= SEALED then
    return nil
  end
  local lost = (run.recoveries or run.lost or run.excused) and 1 or false
  return {
    brief(job.delivery), brief(job.max_instances), brief(job.max_recoveries), brief(job.runs_left), brief(job.periodic),
    lost,
  }
end

-- The same of a run that has its own hash.
local function beside_seal_of_run(record, own, run)
  if string.byte(record, 2) ~= SEALED then
    return nil
  end
  local h = call('HMGET', job_key(own), 'record', 'delivery', 'max_instances', 'max_recoveries', 'runs_left', 'periodic')
  if h[1] ~= record then
    return { (run.recoveries or run.lost or run.excused) and 1 or false }
  end
  local job = { delivery = h[2], max_instances = h[3], max_recoveries = h[4], runs_left = h[5], periodic = h[6] }
  return beside_seal(record, job, run)
end
