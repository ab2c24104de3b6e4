"""Finds and ends the stored jobs that an application has declared and no longer declares."""

from __future__ import annotations

from redsched.client.core import instant_of
from redsched.client.counting import accounts
from redsched.declarations.definition import Entry
from redsched.declarations.owners import Owner
from redsched.jobs.record import Job
from redsched.model import Reason
from redsched.store import queries
from redsched.store.declared import forget_declared, note_declared, read_declared
from redsched.store.queries import StoredJob
from redsched.store.store import Store

__all__ = ["candidates", "end", "forget_old"]

KEPT_ENTRIES = 1000
KEPT_MS = 90 * 24 * 3600 * 1000


async def candidates(store: Store, owner: Owner) -> tuple[list[str], list[str]]:
    """Ids of this owner that the code no longer declares: those that no process declares, and those that are
    held back, since a process that still declares them, or knows their task and may, is there.
    """
    entries = await read_declared(store, owner.name)
    known = set(owner.ids)
    gone = sorted(job_id for job_id in entries if job_id not in known)
    found = await queries.read_jobs(store, gone)
    elder = await _tasks_of_older_workers(store)
    held = [job_id for job_id in gone if job_id in owner.alive or _task_of(store, found.get(job_id)) in elder]
    return [job_id for job_id in gone if job_id not in held], held


async def _tasks_of_older_workers(store: Store) -> set[str]:
    """The tasks of live workers that do not tell what they declare: of a redsched that does not know how."""
    workers = await queries.read_workers(store)
    return {task for told in workers.values() if "declares" not in told for task in told["tasks"]}


def _task_of(store: Store, stored: StoredJob | None) -> str | None:
    try:
        return None if stored is None else Job.decode(stored.id, stored.fields["record"], store.sealer).record.task
    except Exception:
        return None


async def end(store: Store, owner: Owner, ids: list[str]) -> list[str]:
    """End these jobs, if they are this owner's. Returns the ids of those that were there."""
    ended: list[str] = []
    for shard, members in store.by_shard(ids):
        ended += await shard.cancel(
            ids=members, how="prune", application=owner.name,
            count=lambda late, tries, shard=shard: accounts(store, shard, late, Reason.PRUNED, tries),
        )  # fmt: skip
    return ended


async def forget_old(store: Store, owner: Owner) -> None:
    """Bound what is kept of jobs that are over, and that no code declares: the newest, and those for a while.

    Should their code come back later, they count as never declared.
    """
    entries = await read_declared(store, owner.name)
    now_ms = await instant_of(store.shards[0])
    for one in owner.declared:
        entry = Entry.unpack(entries.get(one.id))
        if entry is not None and entry.gone_ms:
            entry.gone_ms = 0
            await note_declared(store, owner.name, one.id, entry.pack())
    if entries.keys() <= set(owner.ids):
        return
    ids, _ = await candidates(store, owner)
    there = await queries.read_jobs(store, ids)
    over: list[tuple[int, str]] = []
    for job_id in ids:
        entry = Entry.unpack(entries.get(job_id))
        if (job_id in there and "record" in there[job_id].fields) or (entry is not None and entry.job):
            continue
        if entry is not None and not entry.gone_ms:
            entry.gone_ms = now_ms
            await note_declared(store, owner.name, job_id, entry.pack())
        over.append((0 if entry is None else entry.gone_ms, job_id))
    over.sort()
    surplus = len(over) - KEPT_ENTRIES
    for number, (gone_ms, job_id) in enumerate(over):
        if number < surplus or gone_ms <= now_ms - KEPT_MS:
            await forget_declared(store, owner.name, job_id)
