"""The data of an older redsched is read and run; and a fleet of older and newer workers keeps its promises."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis.asyncio

from redsched import BackgroundTaskScheduler, JobSpec, Reason, RecordVersionError, State
from redsched.codec.values import SEALED_VERSION, Record
from redsched.store.store import Store
from redsched.testing import Kit, fresh_prefix, kit
from redsched.worker import places
from redsched.worker.worker import Worker
from tests.faults.local import until
from tests.invariants import check
from tests.upgrades import tasks
from tests.upgrades.recording import ARGUMENTS, FOLDER, put_back, security

RECORDINGS = sorted(FOLDER.glob("*.json"))


def scheduler_of(url: str, prefix: str, **settings: Any) -> BackgroundTaskScheduler:
    settings = {"payload_security": security(encrypt=True), "queues": ["default", "second"], **settings}
    scheduler = BackgroundTaskScheduler(url, prefix, declared_tasks=False, **settings)
    scheduler.register(tasks.effect)
    scheduler.register(tasks.fails)
    return scheduler


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
async def recorded(request: pytest.FixtureRequest, redsched_url: str) -> AsyncIterator[Kit]:
    """A scheduler on what a former version left, at the instant at which it left it."""
    tasks.ran.clear()
    # Signatures name the prefix: it has to be the recorded one.
    scheduler = scheduler_of(redsched_url, "recorded")
    await scheduler.clear_all_jobs()
    store = await scheduler.store()
    for shard in store.shards:
        await shard.link.command("DEL", shard.keys.clock, shard.keys.workers)
    await put_back(store, json.loads(Path(request.param).read_text()))
    async with kit(scheduler) as made:
        yield made
        await check(store)
    await store.shards[0].link.command("DEL", store.shards[0].keys.clock, store.shards[0].keys.workers)
    await store.close()


def test_there_is_a_recording() -> None:
    assert RECORDINGS


async def test_everything_that_was_stored_is_shown(recorded: Kit) -> None:
    jobs = {job.id: job for job in await recorded.scheduler.get_jobs()}
    assert set(jobs) == {
        "plain", "types", "options", "cron", "interval", "any", "paused", "dead", "retried", "signed", "encrypted",
        "held", "often",
    }  # fmt: skip
    assert [job for job in jobs.values() if job.reason is Reason.UNREADABLE] == []
    assert jobs["types"].args == ("types", *ARGUMENTS)
    assert jobs["types"].kwargs == {"more": ARGUMENTS}
    options = jobs["options"]
    assert (options.queue, options.timeout, options.max_attempts, options.delivery, options.executor) == (
        "second", 60, 3, "at_most_once", "threadpool",
    )  # fmt: skip
    assert (options.tags, options.misfire_grace_time, options.coalesce) == (("t", "u"), 10**6, False)
    assert {job.id for job in await recorded.scheduler.get_jobs(tag="t")} == {"types", "options"}
    assert jobs["cron"].schedule == "cron */20 * * * * (Europe/Berlin)"
    assert jobs["cron"].next_run_time is not None
    assert jobs["cron"].next_run_time.minute % 20 == 0
    assert (jobs["paused"].state, jobs["dead"].state, jobs["held"].state) == (State.PAUSED, State.DEAD, State.RUNNING)
    assert jobs["encrypted"].args == ("encrypted",)
    assert jobs["interval"].runs_left == 1


async def test_everything_that_was_stored_runs_as_it_was_told(recorded: Kit) -> None:
    scheduler = recorded.scheduler
    await recorded.advance(hours=1)
    counted = Counter(name for name, _, _ in tasks.ran)
    once = ("plain", "types", "options", "interval", "signed", "encrypted")
    assert {name: counted[name] for name in once} == dict.fromkeys(once, 1)
    assert counted["cron"] == 3
    assert counted["paused"] == counted["often"] == 0  # held by a worker whose leases travel along
    [(_, args, kwargs)] = [run for run in tasks.ran if run[0] == "types"]
    assert list(args) == ["types", *ARGUMENTS]
    assert kwargs == {"more": ARGUMENTS}
    ends = {job.id: job.reason for job in await scheduler.get_dead()}
    assert ends["retried"] is Reason.ATTEMPTS_USED_UP
    left = {job.id for job in await scheduler.get_jobs() if job.state is not State.DEAD}
    assert left >= {"cron", "any", "paused", "often"}
    assert not left & set(once)


async def test_what_a_worker_of_then_held_is_recovered(recorded: Kit) -> None:
    shard = (await recorded.scheduler.store()).shards[0]
    for key in (shard.keys.leases, shard.keys.live("often")):
        flat = await shard.link.command("ZRANGE", key, 0, -1)
        for run_id in flat:
            await shard.link.command("ZADD", key, "XX", 1, run_id)
    await recorded.run_due()
    await recorded.run_due()
    counted = Counter(name for name, _, _ in tasks.ran)
    assert (counted["held"], counted["often"]) == (1, 1)


async def test_what_happened_then_can_be_read_and_changed(recorded: Kit) -> None:
    scheduler = recorded.scheduler
    assert (await scheduler.wait_for_result("done", timeout=5)).result == "done"
    kinds = {event.kind for event in await scheduler.get_history()}
    assert kinds >= {"scheduled", "claimed", "done", "dead", "retry", "paused"}
    assert [job.id for job in await scheduler.get_dead()] == ["dead"]
    assert await scheduler.requeue("dead") == ["dead"]
    await scheduler.modify_job("plain", args=["changed"])
    await scheduler.reschedule_job("cron", cron="0 8 * * *")
    await scheduler.resume_job("paused")
    await scheduler.cancel(tag="t")
    assert await scheduler.reseal_jobs() >= 5
    await scheduler.run_now("plain")
    await recorded.run_due()
    assert "changed" in [name for name, _, _ in tasks.ran]


# -- side by side ---------------------------------------------------------------------------------------------------


def newer(data: bytes) -> bytes:
    """A record as a version after this one might write it."""
    return msgpack.packb([99, *msgpack.unpackb(data)])


class _OfTheFuture:
    """Marks the store of a worker that reads those records as well."""

    accept_unsigned = True


@pytest.fixture
def future(monkeypatch: pytest.MonkeyPatch) -> _OfTheFuture:
    read = Record.unpack.__func__  # type: ignore[attr-defined]

    def unpack(cls: type[Record], data: bytes, job_id: str = "", sealer: Any = None) -> Record:
        if isinstance(sealer, _OfTheFuture):
            fields = msgpack.unpackb(data)
            data, sealer = msgpack.packb(fields[1:] if fields[0] == 99 else fields), None
        return read(cls, data, job_id, sealer)

    def newest(worker: Worker) -> int:
        return 99 if isinstance(worker.store.sealer, _OfTheFuture) else SEALED_VERSION

    monkeypatch.setattr(Record, "unpack", classmethod(unpack))
    monkeypatch.setattr(places, "newest_record", newest)
    return _OfTheFuture()


async def counted(number: int) -> None:
    tasks.ran.append((str(number), (number,), {}))


async def test_old_and_new_workers_side_by_side_run_everything_once(redsched_url: str, future: _OfTheFuture) -> None:
    tasks.ran.clear()
    prefix = fresh_prefix()
    old, new = (BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False) for _ in range(2))
    for each in (old, new):
        each.register(counted)
    (await new.store()).sealer = future  # type: ignore[assignment]
    made = await old.schedule_many([JobSpec("job", counted, delay=0.5, args=[n]) for n in range(200)])
    shard = (await old.store()).shards[0]
    for handle in made[::2]:
        key = shard.keys.job(handle.id)
        await shard.link.command("HSET", key, "record", newer(await shard.link.command("HGET", key, "record")))
    often = await old.schedule_interval("often", counted, seconds=1, args=[1000])
    key = shard.keys.job(often.id)
    await shard.link.command("HSET", key, "record", newer(await shard.link.command("HGET", key, "record")))
    await old.start()
    await asyncio.sleep(1.0)  # the old one has seen all that is due, and run what it can read
    assert {int(name) for name, _, _ in tasks.ran} <= set(range(1, 200, 2))
    await new.start()
    await until(lambda: len({name for name, _, _ in tasks.ran}) == 201, 20)
    counts = Counter(name for name, _, _ in tasks.ran)
    assert {counts[str(number)] for number in range(200)} == {1}
    assert counts["1000"] >= 1
    assert await old.get_dead() == []
    postponed = [event for event in await old.get_history(limit=10_000) if event.kind == "postponed"]
    assert {event.reason for event in postponed} == {Reason.UNREADABLE}
    in_vain = Counter(event.job_id for event in postponed)
    assert max(in_vain.values()) == 1, in_vain
    await old.cancel(often.id)
    await check(await old.store())
    await old.clear_all_jobs()
    await old.shutdown()
    await new.shutdown()


Call = Callable[[BackgroundTaskScheduler], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "start": lambda scheduler: scheduler.start(),
    "follow": lambda scheduler: scheduler.start(worker=False),
    "schedule": lambda scheduler: scheduler.schedule_immediate_task("job", counted, args=[1]),
    "schedule many": lambda scheduler: scheduler.schedule_many([JobSpec("job", counted, args=[1])]),
    "list": lambda scheduler: scheduler.get_jobs(),
    "look": lambda scheduler: scheduler.get_job("kept"),
    "dead": lambda scheduler: scheduler.get_dead(),
    "history": lambda scheduler: scheduler.get_history(),
    "modify": lambda scheduler: scheduler.modify_job("kept", args=[2]),
    "pause": lambda scheduler: scheduler.pause_job("kept"),
    "run": lambda scheduler: scheduler.run_now("kept"),
    "remove": lambda scheduler: scheduler.remove_job("kept"),
    "clear": lambda scheduler: scheduler.clear_all_jobs(),
}


async def everything(store: Store) -> dict[bytes, bytes]:
    [shard] = store.shards
    keys = await shard.link.command("KEYS", shard.keys.every())
    return {key: await shard.link.command("DUMP", key) for key in keys}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_keys_of_a_newer_layout_are_left_alone(redsched_kit: Kit, redsched_url: str, call: Call) -> None:
    """A process of this layout neither changes them nor shows what it may misread."""
    await redsched_kit.scheduler.schedule_delayed_task("kept", counted, args=[1], delay=60, job_id="kept")
    store = await redsched_kit.scheduler.store()
    clock = store.shards[0].keys.clock
    await store.link.command("HSET", clock, "layout", 2)
    before = await everything(store)
    older = BackgroundTaskScheduler(redsched_url, redsched_kit.scheduler.prefix, declared_tasks=False)
    older.register(counted)
    try:
        with pytest.raises(RecordVersionError, match=r"layout 2; this redsched knows up to 1\. Upgrade"):
            await call(older)
        assert await everything(store) == before
    finally:
        await older.shutdown()
        await store.link.command("HSET", clock, "layout", 1)


async def test_a_kit_around_keys_of_a_newer_layout_leaves_them_and_closes_its_connections(redsched_url: str) -> None:
    name = fresh_prefix()
    scheduler = BackgroundTaskScheduler(redsched_url, name, declared_tasks=False, redis_options={"client_name": name})
    with pytest.raises(RecordVersionError):
        async with kit(scheduler):
            store = await scheduler.store()
            await store.link.command("HSET", store.shards[0].keys.clock, "layout", 2)
    other = redis.asyncio.Redis.from_url(redsched_url)
    try:
        assert await other.hget(store.shards[0].keys.clock, "layout") == b"2"
        assert [each for each in await other.client_list() if each["name"] == name] == []
    finally:
        await other.delete(store.shards[0].keys.clock)
        await other.aclose()
