"""How jobs get into Redis: checked, all of them, before the first is stored; in as few trips as they need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redsched.checks import check_name
from redsched.client.core import BATCH, TRIES, Client, instant_of
from redsched.client.counting import accounts
from redsched.client.handle import JobHandle
from redsched.client.scheduling_middleware import changed
from redsched.declarations.redeclare import change_of
from redsched.errors import ConflictingIdError, InvalidInputError, JobLookupError, StoreError
from redsched.jobs.spec import Draft, JobSpec
from redsched.model import Reason
from redsched.runtime import forks
from redsched.store import queries
from redsched.store.durability import DurabilityLevel
from redsched.store.rows import Scheduled
from redsched.store.store import Store
from redsched.store.transitions import ClockMovedError, LeftBehindError, Shard, conflict
from redsched.tasks.registry import Task

__all__ = ["draft_of", "schedule", "schedule_many"]

BATCH_BYTES = 1_000_000
"""Of their arguments: one call of a script takes milliseconds, however large they are."""


def draft_of(client: Client, store: Store, spec: JobSpec) -> tuple[Draft, Task, str]:
    """What is to be stored of one job, checked; its task; and the process that alone can run it, or ''.

    Raises:
        InvalidInputError: something is wrong with it.
    """
    if not isinstance(spec, JobSpec):
        raise InvalidInputError(f"pass JobSpec objects, not {type(spec).__qualname__}", field="specs")
    check_name(spec.name)
    task = client.registry.register(spec.task, owner_id=client.id)
    draft = spec.definition(
        task, client.options, client.timezone, f"local:{client.id}", client.max_payload_bytes,
        client.executors,
    )  # fmt: skip
    draft.definition.sealer = store.sealer
    return draft, task, client.id if task.is_local else ""


def _drafts(client: Client, store: Store, specs: Sequence[JobSpec]) -> tuple[list[Draft], str]:
    """The checked drafts, and the id of the only process that can run them, if one of them is local."""
    forks.notice()
    drafts: list[Draft] = []
    owner = ""
    for spec in specs:
        draft, _, local = draft_of(client, store, spec)
        drafts.append(draft)
        owner = owner or local
    return drafts, owner


async def schedule(client: Client, spec: JobSpec) -> JobHandle:
    """One job: as `schedule_many`, without what several need."""
    store = await client.open()
    if client.middleware:
        spec = await changed(client.middleware, spec)
    [draft], owner = _drafts(client, store, [spec])
    definition = draft.definition
    await store.agree()
    level = None
    shard = store.shard(definition.id)
    if definition.durability is not None:
        level = store.durability_level([definition.durability])
        await level.check(shard.link)
    [status] = await _store(store, shard, [draft], owner, level)
    return JobHandle(client, definition.id, definition.name, status)


async def schedule_many(client: Client, specs: Sequence[JobSpec]) -> list[JobHandle]:
    """See `BackgroundTaskScheduler.schedule_many`."""
    store = await client.open()
    if client.middleware:
        specs = [await changed(client.middleware, spec) for spec in specs]
    drafts, owner = _drafts(client, store, specs)
    ids = [draft.definition.id for draft in drafts]
    if len(drafts) > 1 and len(set(ids)) < len(ids):
        twice = next(job_id for job_id in ids if ids.count(job_id) > 1)
        raise InvalidInputError(f"the job_id {twice!r} is given twice in one call", field="job_id")
    await store.agree()
    statuses: dict[str, str] = {}
    by_id = {draft.definition.id: draft for draft in drafts}
    groups = store.by_shard(ids)
    batches = [(shard, batch) for shard, members in groups for batch in _batches(members, by_id)]
    if len(batches) > 1:
        await _check_all(store, groups, by_id)
    levels = {draft.definition.durability for draft in drafts} - {None}
    level = store.durability_level(levels) if levels else None
    if level is not None:
        for shard, _ in groups:
            await level.check(shard.link)
    at_once = asyncio.Semaphore(2)  # the rows of one batch are made while Redis stores another

    async def put(shard: Shard, ids: Sequence[str]) -> None:
        async with at_once:
            done = await _store(store, shard, [by_id[job_id] for job_id in ids], owner, level)
        statuses.update(zip(ids, done, strict=True))

    if len(batches) == 1:
        await put(*batches[0])
    else:
        for outcome in await asyncio.gather(*(put(*batch) for batch in batches), return_exceptions=True):
            if outcome is not None:
                raise outcome
    return [JobHandle(client, d.definition.id, d.definition.name, statuses[d.definition.id]) for d in drafts]


def _batches(ids: Sequence[str], drafts: Mapping[str, Draft]) -> Iterator[list[str]]:
    """The jobs of each call: at most BATCH jobs and BATCH_BYTES bytes of arguments, but at least one job."""
    batch: list[str] = []
    size = 0
    for job_id in ids:
        more = len(drafts[job_id].definition.payload)
        if batch and (len(batch) == BATCH or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job_id)
        size += more
    if batch:
        yield batch


async def _check_all(store: Store, groups: Sequence[tuple[Shard, list[str]]], drafts: Mapping[str, Draft]) -> None:
    """Find what one call of the script would refuse, before the first of several calls stores anything."""
    for shard, members in groups:
        needing = [draft for draft in map(drafts.__getitem__, members) if draft.needs_now]
        assumed = await instant_of(shard) if needing else 0
        for draft in needing:
            draft.row(assumed)
    wanted = [job_id for job_id, draft in drafts.items() if draft.definition.mode == "add"]
    taken = [
        stored.id
        for stored in (await queries.read_jobs(store, wanted)).values()
        if "record" in stored.fields and stored.fields.get("state") != b"dead"
    ]
    if taken:
        raise conflict(taken)


async def _store(
    store: Store, shard: Shard, drafts: Sequence[Draft], owner: str, level: DurabilityLevel | None
) -> list[str]:
    others = [draft for draft in drafts if draft.definition.mode != "update"]
    if len(others) == len(drafts):
        return await _store_batch(store, shard, drafts, owner, level)
    done = iter(await _store_batch(store, shard, others, owner, level) if others else [])
    return [
        await _store_update(store, shard, draft, owner, level) if draft.definition.mode == "update" else next(done)
        for draft in drafts
    ]


async def _store_batch(
    store: Store, shard: Shard, drafts: Sequence[Draft], owner: str, level: DurabilityLevel | None
) -> list[str]:
    account: dict[str, list[Any]] = {}
    for tries in range(TRIES):
        assumed = await instant_of(shard) if any(draft.needs_now for draft in drafts) else 0
        rows = [draft.row(assumed) for draft in drafts]
        if account:
            rows = [[*row, account.get(row[Scheduled.ID], False)] for row in rows]
        try:
            return await shard.schedule(rows, assumed_ms=assumed, owner=owner, level=level)
        except ClockMovedError:
            continue  # the clock is known better now
        except LeftBehindError as error:
            account |= await accounts(store, shard, error.ids, Reason.REPLACED, tries)
    raise StoreError("Redis' clock jumps: no fire time could be computed that was still true when it arrived")


async def _store_update(store: Store, shard: Shard, draft: Draft, owner: str, level: DurabilityLevel | None) -> str:
    """replace_existing="update": as True, but a job that is there and has this schedule keeps its cursor."""
    definition = draft.definition
    for _ in range(TRIES):
        stored = (await queries.read_jobs(store, [definition.id])).get(definition.id)
        change = None if stored is None else change_of(draft, stored, store.sealer)
        if stored is None or change is None:
            definition.mode = "add" if stored is None else "replace"
            try:
                [status] = await _store_batch(store, shard, [draft], owner, level)
            except ConflictingIdError:
                continue  # it is there now
            finally:
                definition.mode = "update"
            return status
        try:
            done = await shard.modify(definition.id, stored.version, change)
        except JobLookupError:
            continue  # it has ended
        if done is not None:
            return "replaced"
    raise StoreError(f"job {definition.id!r} is being changed by others all the time; nothing was changed")
