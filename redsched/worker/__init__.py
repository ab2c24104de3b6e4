"""The worker: claims runs, executes them, settles them. A run's way through these files:

- `poll.ShardLoop` sends `poll` to one shard, for as many runs as `capacity.Capacity` has room for.
- A claimed row becomes a `runs.Run` (`claims.Claims.accept`): it is in `held.HeldRuns`, and waits in `slots.Slots`.
- Its turn comes: a slot, which is an asyncio task, calls `execution.Execution.execute`.
- `Claims.read` decodes the record and looks up the task. What this worker cannot run is postponed, for another worker.
- `Execution` checks its lateness and calls the task within its policies, by `executors/` (loop, threads, processes).
- How that ended goes to `outcomes.Outcomes`: `done`, `failed`, `cancelled` or `postpone` says what that means.
- `Outcomes.finish` takes the run out of `HeldRuns`, which frees its place and wakes the loop, and makes a row of it.
- The loop's next `poll` takes all rows along. Redis compares the fencing tokens: it settles the runs, or refuses.
- Leases of runs still held are renewed by the same poll; runs that it calls lost or cancelled are stopped.
- Jobs whose next fires are not known come as rows of plans: `Claims.plan` commits plans, and holds the runs that start.
"""
