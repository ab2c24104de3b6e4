"""What a client does to jobs: look, change, end. Each function is a method of the scheduler, undecorated.

Where a change depends on what is stored (modify, resume, reschedule), it is computed here from a version that was
read, and Redis stores it only if that is still the version: else it is computed again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from redsched.checks import check_id, check_name, check_queue, check_tags
from redsched.client import listing
from redsched.client.core import BATCH, TRIES, Client, instant_of
from redsched.client.counting import accounts
from redsched.client.listing import JobPage, check_state
from redsched.codec.numbers import whole
from redsched.codec.values import Record, pack_payload, unpack_payload
from redsched.context import current_event
from redsched.declarations.definition import noted
from redsched.errors import (
    EncodingError,
    InvalidInputError,
    InvalidScheduleError,
    JobLookupError,
    RecordVersionError,
    SchedulerStateError,
    StoreError,
    UnknownKeyError,
    UntrustedRecordError,
)
from redsched.jobs.accounting import cursor_of, dropped
from redsched.jobs.keywords import JobChanges, WhenOptions, check_names
from redsched.jobs.options import SIGNED_RUNS, JobOptions, check_executor
from redsched.jobs.record import Job
from redsched.jobs.spec import Interval, check_arguments, schedule_of
from redsched.jobs.view import view_of
from redsched.model import JobView, Reason, State
from redsched.schedules import CronSchedule, DateSchedule, IntervalSchedule, Schedule
from redsched.schedules.instants import instant_ms
from redsched.schedules.plan import first_fires
from redsched.schedules.zones import parse_timezone
from redsched.store import queries
from redsched.store.clock import from_ms
from redsched.store.queries import StoredJob
from redsched.store.store import Store
from redsched.store.transitions import ClockMovedError, Count, Shard
from redsched.tasks.binding import check_task

__all__ = [
    "cancel", "get_dead", "get_job", "get_jobs", "iter_jobs", "modify", "pause", "remove", "requeue", "reschedule",
    "reseal", "resume", "run_now",
]  # fmt: skip

log = logging.getLogger("redsched")

NO_VERSION = -1
"""A version that no job has."""


# -- look -----------------------------------------------------------------------------------------------------------


async def _read(store: Store, job_id: str) -> StoredJob:
    found = await queries.read_jobs(store, [job_id])
    if job_id not in found or b"record" not in [name.encode() for name in found[job_id].fields]:
        raise JobLookupError(f"no job with id {job_id!r}: it has ended, was removed, or never existed")
    return found[job_id]


async def get_job(client: Client, job_id: str) -> JobView | None:
    """See `BackgroundTaskScheduler.get_job`."""
    store = await client.store()
    check_name(job_id, "job_id")
    try:
        return view_of(await _read(store, job_id), store.sealer)
    except JobLookupError:
        return None


async def get_jobs(
    client: Client,
    *,
    tag: str | None,
    queue: str | None,
    state: State | str | None,
    limit: int | None,
    cursor: str | None,
) -> JobPage:
    """See `BackgroundTaskScheduler.get_jobs`."""
    wanted, store = check_state(state), await client.store()
    if limit is not None or cursor is not None:
        return await listing.get_page(store, tag, queue, wanted, 1000 if limit is None else limit, cursor)
    ids = [job_id async for job_id in queries.find_ids(store, tag=tag)]
    stored = await queries.read_jobs(store, dict.fromkeys(ids), queries.Wanted(queue, wanted))
    found = [view_of(job, store.sealer) for job in stored.values()]
    return JobPage(
        sorted(found, key=lambda v: (v.next_run_time is None, v.next_run_time and v.next_run_time.timestamp(), v.id))
    )


async def iter_jobs(
    client: Client, *, tag: str | None, queue: str | None, state: State | str | None
) -> AsyncIterator[JobView]:
    """See `BackgroundTaskScheduler.iter_jobs`."""
    wanted = check_state(state)
    async for job in listing.iter_jobs(await client.store(), tag, queue, wanted):
        yield job


async def get_dead(client: Client, limit: int) -> list[JobView]:
    """See `BackgroundTaskScheduler.get_dead`."""
    store = await client.store()
    return [view_of(stored, store.sealer) for stored in await queries.read_dead(store, limit)]


# -- end ------------------------------------------------------------------------------------------------------------


async def cancel(client: Client, ids: Sequence[str] | None, tag: str | None) -> list[str]:
    """See `BackgroundTaskScheduler.cancel_jobs`."""
    store = await client.store()
    if (ids is None) == (tag is None):
        raise InvalidInputError("pass either ids or a tag", field="tag")
    ended: list[str] = []
    if isinstance(ids, str | bytes):
        raise InvalidInputError(f"ids is {ids!r}; pass a list of them", field="ids")
    for job_id in ids or ():
        check_name(job_id, "ids")
    if tag is not None:
        check_tags([tag], "tag")
        for shard in store.shards:
            ended += await shard.cancel(tag=tag, count=_count(store, shard, Reason.CANCELLED))
        return ended
    for shard, members in store.by_shard(dict.fromkeys(ids or ())):
        for start in range(0, len(members), BATCH):
            count = _count(store, shard, Reason.CANCELLED)
            ended += await shard.cancel(ids=members[start : start + BATCH], count=count)
    return ended


async def remove(client: Client, job_id: str) -> None:
    """See `BackgroundTaskScheduler.remove_job`."""
    store = await client.store()
    check_id(job_id)
    shard = store.shard(job_id)
    if not await shard.cancel(ids=[job_id], how="remove", count=_count(store, shard, Reason.REMOVED)):
        raise JobLookupError(f"no job with id {job_id!r}: it has ended, was removed, or never existed")


def _count(store: Store, shard: Shard, reason: Reason) -> Count:
    return lambda ids, tries: accounts(store, shard, ids, reason, tries)


async def requeue(client: Client, run_ids: Sequence[str]) -> list[str]:
    """See `BackgroundTaskScheduler.requeue`."""
    store = await client.store()
    requeued: list[str] = []
    for run_id in run_ids:
        check_name(run_id, "run_ids")
    for shard, members in store.by_shard(dict.fromkeys(run_ids)):
        for start in range(0, len(members), BATCH):
            requeued += await shard.requeue(members[start : start + BATCH])
    return requeued


# -- change ---------------------------------------------------------------------------------------------------------

Change = Callable[[Job, StoredJob, int], Mapping[str, Any]]


async def _change(store: Store, job_id: str, compute: Change) -> StoredJob | None:
    """Read a job, compute a change, store it if the job is unchanged; else try again. Returns the job afterwards."""
    check_id(job_id)
    shard = store.shard(job_id)
    for _ in range(TRIES):
        try:
            stored = await _read(store, job_id)
        except JobLookupError:
            if current_event.get() is None:
                raise
            # An event that is handled again: the job was changed the first time, and has ended since, or never was.
            done = await shard.modify(job_id, NO_VERSION, {})
            if done is None:
                continue  # it is there now
            record, row = done
            return None if record is None else queries.changed(job_id, record, row)
        version = stored.version
        job = Job.decode(job_id, stored.fields["record"], store.sealer, version=version)
        now_ms = await instant_of(shard)
        change: dict[str, Any] = {"cursor": cursor_of(stored.fields, stored.due_ms), **compute(job, stored, now_ms)}
        try:
            done = await shard.modify(job_id, version, change, assumed_ms=now_ms)
        except ClockMovedError:
            continue
        if done is not None:
            return queries.changed(job_id, change.get("record", stored.fields["record"]), done[1])
    raise StoreError(f"job {job_id!r} is being changed by others all the time; nothing was changed")


def _from_now(schedule: Schedule, job_id: str, now_ms: int) -> list[int] | str:
    """When a job with this schedule is due next: `when` of `lua/modify.lua`."""
    first, following = first_fires(schedule.with_seed(job_id), now_ms)
    return "end" if first is None else [first, following or 0]


def _dropped(
    job: Job, stored: StoredJob, when: Any, now_ms: int, reason: Reason = Reason.RESCHEDULED
) -> list[list[Any]]:
    """The fires that a job drops if it is due next at `when` (see `lua/modify.lua`)."""
    upto_ms = now_ms if when == "end" else min(now_ms, when[0] - 1)
    return dropped(stored.fields, stored.due_ms, job.schedule, upto_ms, reason)


async def pause(client: Client, job_id: str) -> None:
    """See `BackgroundTaskScheduler.pause_job`."""
    check_id(job_id)
    if not await (await client.store()).shard(job_id).pause(job_id):
        raise SchedulerStateError(f"job {job_id!r} runs for the last time: there is nothing left to pause")


async def run_now(client: Client, job_id: str) -> str:
    """See `BackgroundTaskScheduler.run_now`."""
    check_id(job_id)
    return await (await client.store()).shard(job_id).run(job_id)


async def resume(client: Client, job_id: str) -> JobView | None:
    """See `BackgroundTaskScheduler.resume_job`."""
    store = await client.store()

    def compute(job: Job, stored: StoredJob, now_ms: int) -> Mapping[str, Any]:
        if job.schedule is None:
            when: Any = "saved" if "paused_ms" in stored.fields else False
            return {"kind": "resumed", "when": when}
        schedule = job.schedule.unbased()
        when = _from_now(schedule, job_id, now_ms)
        change: dict[str, Any] = {"kind": "resumed", "when": when, "dropped": _dropped(job, stored, when, now_ms)}
        if schedule != job.schedule:
            change["record"] = _with_schedule(job, schedule).pack(job_id, store.sealer)
        return change

    stored = await _change(store, job_id, compute)
    return None if stored is None else view_of(stored, store.sealer)


def _with_schedule(job: Job, schedule: Schedule | None, timezone: str | None = None) -> Record:
    options = {key: value for key, value in job.record.options.items() if key not in ("schedule", "timezone")}
    if schedule is not None:
        options["schedule"] = schedule.to_wire()
    else:
        options.pop(SIGNED_RUNS, None)
    zone = timezone or job.timezone
    if zone != "UTC":
        options["timezone"] = zone
    return replace(job.record, options=options)


async def reschedule(
    client: Client, job_id: str, ways: Mapping[str, Any], timezone: str | tzinfo | None, when: Mapping[str, Any]
) -> JobView | None:
    """See `BackgroundTaskScheduler.reschedule_job`."""
    store = await client.store()
    check_names("reschedule_job", when, WhenOptions.__optional_keys__ | {*ways, "timezone"})
    is_zone_alone = all(value is None for value in ways.values())
    if is_zone_alone and (timezone is None or when):
        raise InvalidInputError("pass one of cron, interval, run_at and schedule, or timezone alone", field="cron")

    def compute(job: Job, stored: StoredJob, now_ms: int) -> Mapping[str, Any]:
        zone = parse_timezone(timezone, job.timezone)
        if is_zone_alone and job.schedule is None:
            return _modified(job_id, _with_schedule(job, None, zone), store)
        if is_zone_alone and job.schedule is not None:
            made: Schedule | Interval | int = job.schedule.in_timezone(zone)
        else:
            made = schedule_of(**ways, **{**_kept(job.schedule, ways, when), **when}, zone=zone)
        if isinstance(made, Interval):
            made = made.anchored(now_ms)
        if isinstance(made, DateSchedule):
            record = _with_schedule(job, None, zone)
            return {
                "kind": "modified", "when": [made.run_ms, 0], "record": record.pack(job_id, store.sealer),
                "unset": ["periodic", "runs_left"],
                "set": noted(stored.fields, "schedule"),
                "dropped": dropped(stored.fields, stored.due_ms, job.schedule, now_ms, Reason.RESCHEDULED),
            }  # fmt: skip
        assert isinstance(made, Schedule)
        due = _from_now(made, job_id, now_ms)
        if due == "end":
            raise InvalidScheduleError(f"the schedule ({made.describe()}) never fires from now on", field="schedule")
        record = _with_schedule(job, made, zone)
        return {
            "kind": "modified",
            "when": due,
            "dropped": _dropped(job, stored, due, now_ms),
            "record": record.pack(job_id, store.sealer),
            "set": ["periodic", 1, *noted(stored.fields, "schedule")],
        }

    stored = await _change(store, job_id, compute)
    return None if stored is None else view_of(stored, store.sealer)


def _modified(job_id: str, record: Record, store: Store) -> Mapping[str, Any]:
    """A change of the record alone: when the job is due stays."""
    return {"kind": "modified", "when": False, "record": record.pack(job_id, store.sealer), "unset": ["declared"]}


def _kept(old: Schedule | None, ways: Mapping[str, Any], when: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a new cron expression or interval keeps from the old schedule, unless the call sets them."""
    if not isinstance(old, CronSchedule | IntervalSchedule) or (ways["cron"] is None and ways["interval"] is None):
        return {}
    kept: dict[str, Any] = {}
    if old.jitter_ms:
        kept["jitter"] = old.jitter_ms / 1000
    if old.end_ms is not None:
        kept["end"] = from_ms(old.end_ms)
    if isinstance(old, CronSchedule) and ways["cron"] is not None:
        if old.start_ms is not None:
            kept["start"] = from_ms(old.start_ms)
        kept.update(dst_gap=old.dst_gap, dst_fold=old.dst_fold)
    return {name: value for name, value in kept.items() if name not in when}


def _call(client: Client, record: Record, changes: Mapping[str, Any]) -> tuple[str, bytes]:
    """The task and the arguments after a change of them, checked against each other if this process knows the task."""
    if not changes.keys() & {"task", "args", "kwargs"}:
        return record.task, record.payload
    args, kwargs = unpack_payload(record.payload)
    args, kwargs = check_arguments(changes.get("args", args), changes.get("kwargs", kwargs))
    registry = client.registry
    task = registry.register(changes["task"]) if "task" in changes else registry.known(record.task)
    if task is not None:
        check_task(task, args, kwargs)
    payload = record.payload
    if "args" in changes or "kwargs" in changes:
        payload = pack_payload(args, kwargs, limit=client.max_payload_bytes)
    return record.task if task is None else task.name, payload


async def modify(client: Client, job_id: str, changes: Mapping[str, Any]) -> JobView:
    """See `BackgroundTaskScheduler.modify_job`."""
    if not changes:
        raise InvalidInputError("name at least one change", field="changes")
    check_names("modify_job", changes, JobChanges.__optional_keys__)
    store = await client.store()
    own_words = {"name", "task", "args", "kwargs", "tags", "queue", "timezone", "next_run_time"}
    option_changes = {key: value for key, value in changes.items() if key not in own_words}

    def compute(job: Job, stored: StoredJob, now_ms: int) -> Mapping[str, Any]:
        options: JobOptions = job.options.with_values(option_changes)
        if "executor" in option_changes:
            check_executor(options.executor, client.executors)
        if changes.get("max_runs") is not None and job.schedule is None:
            raise InvalidInputError("max_runs is for periodic jobs; this one runs once", field="max_runs")
        if job.record.locked:
            raise UnknownKeyError(f"job {job_id!r} is {job.record.locked}, and this process has no keys to change it")
        task, payload = _call(client, job.record, changes)
        schedule, when, behind = job.schedule, False, list[list[Any]]()
        zone = parse_timezone(changes.get("timezone"), job.timezone)
        if zone != job.timezone and schedule is not None:
            before = schedule.first(now_ms)
            schedule = schedule.in_timezone(zone)
            # A pause stays one, and so does an instant that was chosen before: only a cron expression means others now.
            if stored.fields.get("state") != b"paused" and schedule.first(now_ms) != before:
                when = _from_now(schedule, job_id, now_ms)
                if when == "end":
                    raise InvalidScheduleError(f"in {zone} the schedule never fires from now on", field="timezone")
                behind = _dropped(job, stored, when, now_ms)
        if "next_run_time" in changes:
            explicit = changes["next_run_time"]
            if explicit is None:
                when = "pause"
            else:
                at_ms = instant_ms(explicit, zone, "next_run_time")
                following = -1
                # Also the fires ahead of now that are passed over: they must not disappear without a record.
                behind = dropped(stored.fields, stored.due_ms, schedule, at_ms - 1, Reason.RESCHEDULED)
                if schedule is not None:
                    schedule = schedule.rebased(at_ms)
                when = [at_ms, following]
        wire = options.to_wire()
        if schedule is not None:
            wire["schedule"] = schedule.to_wire()
        if zone != "UTC":
            wire["timezone"] = zone
        tags = check_tags(changes["tags"]) if "tags" in changes else job.tags
        if tags:
            wire["tags"] = tags
        most = changes["max_runs"] if "max_runs" in changes else job.record.options.get(SIGNED_RUNS)
        if store.sealer is not None and most is not None:
            wire[SIGNED_RUNS] = most
        name = check_name(changes.get("name", job.record.name))
        record = replace(job.record, task=task, name=name, payload=payload, options=wire)
        change: dict[str, Any] = {
            "kind": "modified", "when": when, "record": record.pack(job_id, store.sealer), "set": options.hash_fields(),
            "dropped": behind,
            "unset": [n for n in ("max_instances", "max_recoveries", "delivery") if n in stored.fields],
        }  # fmt: skip
        if "max_runs" in changes and changes["max_runs"] is None:
            change["unset"].append("runs_left")
        if "max_runs" in changes:
            change["set"] += noted(stored.fields, "max_runs")
        if "tags" in changes:
            change["tags"] = list(tags)
        if "queue" in changes:
            change["queue"] = check_queue(changes["queue"])
        return change

    stored = await _change(store, job_id, compute)
    assert stored is not None, "no change of these ends a job"
    return view_of(stored, store.sealer)


async def reseal(client: Client) -> int:
    """See `BackgroundTaskScheduler.reseal_jobs`."""
    store = await client.store()
    sealer = store.sealer
    if sealer is None:
        raise InvalidInputError("reseal_jobs needs payload_security: there is no key to seal with", field="keys")
    sealed = 0

    def compute(job: Job, stored: StoredJob, now_ms: int) -> Mapping[str, Any]:
        left = whole(stored.fields.get("runs_left"))
        bound = {} if job.record.label or left is None else {SIGNED_RUNS: left}
        record = replace(job.record, options=job.record.options | bound)
        return {"kind": "modified", "when": False, "record": record.pack(job.id, sealer)}

    async for job_id in queries.find_ids(store):
        try:
            stored = await _read(store, job_id)
            if Record.unpack(stored.fields["record"], job_id, sealer).label != sealer.label:
                await _change(store, job_id, compute)
                sealed += 1
        except JobLookupError:
            continue  # it has ended, or is dead
        except (EncodingError, RecordVersionError, UnknownKeyError, UntrustedRecordError) as error:
            log.warning("job %r is left as it is: %s", job_id, error, extra={"job": job_id})
    return sealed
