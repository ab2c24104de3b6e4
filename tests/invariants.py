"""What is true of the keys of a shard at every instant between two scripts.

    await check(store)

An orphan would be memory that nothing ever frees, or a job that is never run.
"""

from __future__ import annotations

from redsched.store.store import Store
from redsched.store.transitions import Shard

__all__ = ["check"]

SINGLE = {"applications", "clock", "events", "leases", "dead", "workers", "parking"}
WITH_TTL = {
    "worker", "idle", "wake", "mail", "requests", "result", "circuit", "ended", "batches", "index", "outcome",
    "answers", "quarantine",
}  # fmt: skip
DECLARED = {"declared", "declarers", "generations"}
Fields = dict[str, str]


class _Picture:
    """All that a shard holds, by kind of key."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, Fields]] = {"job": {}, "run": {}}
        self.scores: dict[str, dict[str, dict[str, float]]] = {"due": {}, "live": {}, "parked": {}}
        self.sets: dict[str, dict[str, set[str]]] = {"waiting": {}, "tag": {}}
        self.leases: dict[str, float] = {}
        self.dead: dict[str, float] = {}
        self.dead_bytes = 0
        self.places: dict[str, float] = {}
        self.immortal: list[str] = []
        self.unknown: list[str] = []


# One call, so that what is looked at is one instant, and a look costs no more on a machine that is slow to switch.
LOOK = """
local tag, found = ARGV[1], {}
for _, key in ipairs(redis.call('KEYS', ARGV[2])) do
  local name = string.sub(key, #tag + 1)
  local kind = string.match(name, '^[^:]*')
  local content = false
  if kind == 'job' or kind == 'run' then
    content = redis.call('HGETALL', key)
  elseif kind == 'tag' or kind == 'waiting' then
    content = redis.call('SMEMBERS', key)
  elseif redis.call('TYPE', key).ok == 'zset' then
    content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'clock' then
    content = redis.call('HGET', key, 'dead_bytes')
  end
  found[#found + 1] = { name, content, redis.call('PTTL', key) }
end
return found
"""


def _scores(flat: list[bytes]) -> dict[str, float]:
    return {flat[i].decode(): float(flat[i + 1]) for i in range(0, len(flat), 2)}


async def _look(shard: Shard) -> _Picture:
    picture = _Picture()
    keys = shard.keys
    for raw_name, content, ttl_ms in sorted(
        await shard.link.command("EVAL", LOOK, 1, keys.clock, keys.tag, keys.every()), key=lambda row: row[0]
    ):
        name = raw_name.decode()
        kind, _, own = name.partition(":")
        if name == "leases":
            picture.leases = _scores(content)
        elif name == "dead":
            picture.dead = _scores(content)
        elif name == "parking":
            picture.places = _scores(content)
        elif name == "clock":
            picture.dead_bytes = int(content or 0)
        elif kind in picture.hashes:
            picture.hashes[kind][own] = {
                content[i].decode(): content[i + 1].decode(errors="replace") for i in range(0, len(content), 2)
            }
        elif kind in picture.scores:
            picture.scores[kind][own] = _scores(content)
        elif kind in picture.sets:
            picture.sets[kind][own] = {member.decode() for member in content}
        elif kind in DECLARED:
            continue  # it outlasts the jobs: capped, or pruned
        elif kind in WITH_TTL:
            if ttl_ms == -1:
                picture.immortal.append(name)
        elif name not in SINGLE:
            picture.unknown.append(name)
    return picture


def _owner(run_id: str) -> str | None:
    head, _, fire = run_id.rpartition("@")
    return head if head and fire.isdigit() else None


def _broken(at: _Picture) -> list[str]:
    """What is not as it should be, in words."""
    jobs, runs = at.hashes["job"], at.hashes["run"]
    due, live, waiting = at.scores["due"], at.scores["live"], at.sets["waiting"]
    wrong = [f"{name} has neither an owner nor a TTL" for name in at.immortal]
    wrong += [f"nobody knows the key {name}" for name in at.unknown]

    for job_id, job in jobs.items():
        if "record" not in job:
            wrong.append(f"job {job_id} has no record: {job}")
        is_due = job_id in due.get(job.get("queue", "default"), {})
        is_parked = job_id in at.scores["parked"].get(job.get("parked", ""), {})
        if not (is_due or is_parked or "fence" in job or "state" in job or live.get(job_id) or waiting.get(job_id)):
            wrong.append(f"nothing will ever run or end job {job_id}: {job}")
        if is_due and "fence" in job and "next_ms" not in job:
            wrong.append(f"job {job_id} is due and running: {job}")
        if is_due and "state" in job:
            wrong.append(f"job {job_id} is {job['state']} and due")
        if is_due and "periodic" in job and "next_ms" not in job:
            wrong.append(f"periodic job {job_id} is due, but not known when: {job}")
        if "fence" in job and job_id not in at.leases:
            wrong.append(f"job {job_id} runs without a lease")
        if job.get("state") == "dead" and job_id not in at.dead:
            wrong.append(f"job {job_id} is dead, but not among the dead")

    for run_id, run in runs.items():
        own = _owner(run_id)
        if own is None or run.get("job") != own:
            wrong.append(f"run {run_id} is of no job: {run}")
        elif run.get("state") == "dead":
            if run_id not in at.dead:
                wrong.append(f"run {run_id} is dead, but not among the dead")
        elif "fence" in run:
            if run_id not in live.get(own, {}):
                wrong.append(f"run {run_id} holds a token, but is not live")
        elif run_id not in waiting.get(own, set()):
            wrong.append(f"run {run_id} neither runs nor waits: {run}")
        if "fence" in run and run_id in waiting.get(own or "", set()):
            wrong.append(f"run {run_id} runs and waits")

    for queue, members in due.items():
        wrong += [
            f"{member} is due in {queue}, but does not exist" for member in members if member not in (jobs | runs)
        ]
    everywhere = {member for members in due.values() for member in members}
    wrong += _wrongly_parked(at, everywhere)
    everywhere |= {member for members in at.scores["parked"].values() for member in members}
    for job_id, members in live.items():
        wrong += [f"{run_id} is live without a lease" for run_id in members if run_id not in at.leases]
        wrong += [f"{run_id} is live without a token" for run_id in members if "fence" not in runs.get(run_id, {})]
        wrong += [f"{run_id} is in live:{job_id}" for run_id in members if _owner(run_id) != job_id]
    for members in waiting.values():
        wrong += [f"{run_id} waits, but is not due, nor parked" for run_id in members if run_id not in everywhere]
        wrong += [f"{run_id} waits, but does not exist" for run_id in members if run_id not in runs]
    for tag, members in at.sets["tag"].items():
        wrong += [f"tag {tag} names {job_id}, which does not exist" for job_id in members if job_id not in jobs]
    for run_id in at.dead:
        if (jobs | runs).get(run_id, {}).get("state") != "dead":
            wrong.append(f"{run_id} is among the dead, but is not dead")
    counted = sum(int(fields.get("dead_bytes", 0)) for fields in (jobs | runs).values())
    if counted != at.dead_bytes:
        wrong.append(f"the dead take {counted} bytes; {at.dead_bytes} are counted")
    return wrong


def _wrongly_parked(at: _Picture, due: set[str]) -> list[str]:
    """What is parked though it is not there, or runs, or is not to run; and where nobody would look for it."""
    wrong: list[str] = []
    all_of = at.hashes["job"] | at.hashes["run"]
    for place, members in at.scores["parked"].items():
        if place not in at.places:
            wrong.append(f"the place {place} is not listed")
        for member in members:
            fields = all_of.get(member)
            if fields is None:
                wrong.append(f"{member} is parked, but does not exist")
                continue
            if fields.get("parked") != place:
                wrong.append(f"{member} is parked in {place}, but does not say so: {fields}")
            if "state" in fields or ("fence" in fields and "next_ms" not in fields):
                wrong.append(f"{member} is parked, and paused, dead or running: {fields}")
            if member in due:
                wrong.append(f"{member} is parked and due")
            job = at.hashes["job"].get(_owner(member) or member, fields)
            need, _, _ = place.rpartition(" ")  # its queue is that of the claim, whatever the job's is by now
            if need not in (job.get("needs"), fields.get("needs")):  # a run that outlives its job says it itself
                wrong.append(f"{member} is parked in {place}, and its job does not need that: {fields} of {job}")
    for member, fields in all_of.items():
        if "parked" in fields and member not in at.scores["parked"].get(fields["parked"], {}):
            wrong.append(f"{member} says that it is parked, but is not: {fields}")
    return wrong


async def check(store: Store) -> None:
    """Compare all keys of a store with each other.

    Raises:
        AssertionError: something is not as it should be; the message lists all that is not.
    """
    for shard in store.shards:
        wrong = _broken(await _look(shard))
        assert not wrong, "; ".join(wrong)
