"""With payload keys, a worker runs only what was signed for that very job; what is hidden needs a key to be seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgpack
import pytest

from redsched import (
    BackgroundTaskScheduler,
    InvalidConfigError,
    InvalidInputError,
    PayloadSecurity,
    State,
    UnknownKeyError,
    UntrustedRecordError,
)
from redsched.codec.values import Record, pack_payload
from redsched.testing import fresh_prefix

OLD, NEW = "old key, which is 32 bytes or more", "new key, which is 32 bytes or more"
ran: list[Any] = []


async def note(value: Any = None) -> Any:
    ran.append(value)
    return value


TASK = f"{note.__module__}.note"
Make = Callable[..., BackgroundTaskScheduler]


@pytest.fixture
async def make(redsched_url: str) -> AsyncIterator[Make]:
    """Schedulers of one prefix, each with keys of its own."""
    ran.clear()
    prefix = fresh_prefix()
    made: list[BackgroundTaskScheduler] = []

    def scheduler(*keys: str, **how: Any) -> BackgroundTaskScheduler:
        security = PayloadSecurity(keys, **how) if keys else None
        made.append(BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False, payload_security=security))
        made[-1].register(note)
        return made[-1]

    yield scheduler
    await made[0].clear_all_jobs()
    for each in made:
        await each.shutdown(wait=False)


async def run_once(scheduler: BackgroundTaskScheduler) -> None:
    await scheduler.store()
    await scheduler.make_worker().run_once()


async def stored(scheduler: BackgroundTaskScheduler, job_id: str) -> bytes:
    shard = (await scheduler.store()).shards[0]
    return await shard.link.command("HGET", shard.keys.job(job_id), "record")


async def put(scheduler: BackgroundTaskScheduler, job_id: str, record: bytes) -> None:
    shard = (await scheduler.store()).shards[0]
    await shard.link.command("HSET", shard.keys.job(job_id), "record", record)
    await shard.link.command("ZADD", shard.keys.due("default"), 1, job_id)


async def ends(scheduler: BackgroundTaskScheduler, job_id: str) -> list[tuple[str, str | None]]:
    past = await scheduler.get_history(job_id)
    return [(e.kind, e.reason) for e in past if e.kind in ("done", "dead", "postponed")]


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["too short to be of any use"], "key 1 has 26 bytes; at least 32"),
        ([OLD, b"short"], "key 2 has 5 bytes"),
        ([OLD, OLD], "key 2 is given twice"),
        ([], "at least one key"),
        (OLD, "a list"),
        ([5], "type int"),
    ],
)
def test_a_key_that_is_of_no_use_is_refused_and_not_shown(keys: Any, why: str) -> None:
    with pytest.raises(InvalidConfigError, match=why) as caught:
        PayloadSecurity(keys)
    assert not [key for key in keys if isinstance(key, str) and len(key) > 1 and key in str(caught.value)]


def test_keys_are_not_shown() -> None:
    security = PayloadSecurity([OLD, NEW])
    assert OLD not in repr(security) + repr(vars(security))
    assert "2 keys" in repr(security)


def test_without_keys_the_bytes_are_the_same_as_ever() -> None:
    record = Record("task", "name", pack_payload([1], {}), {})
    assert record.pack() == record.pack("job") == msgpack.packb((1, "task", "name", pack_payload([1], {}), None))


# -- records --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
async def test_a_job_runs_where_the_key_is_known_and_its_result_can_be_read_there(encrypt: bool, make: Make) -> None:
    scheduler = make(OLD, encrypt=encrypt)
    handle = await scheduler.schedule_immediate_task("secret name", note, args=["a secret"], job_id="job")
    record = await stored(scheduler, "job")
    assert (b"a secret" in record) is not encrypt
    assert b"secret name" in record  # what is shown of a job is not hidden
    view = await handle.get()
    assert view is not None
    assert view.args == ("a secret",)
    await run_once(scheduler)
    assert ran == ["a secret"]
    shard = (await scheduler.store()).shards[0]
    assert (b"a secret" in await shard.link.command("GET", shard.keys.result("job"))) is not encrypt
    assert (await handle.result(timeout=5)).result == "a secret"
    assert await ends(scheduler, "job") == [("done", None)]


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
async def test_periodic_jobs_and_process_pools_work_as_without(encrypt: bool, make: Make) -> None:
    scheduler = make(OLD, encrypt=encrypt)
    await scheduler.schedule_interval("often", note, seconds=3600, args=["often"], job_id="often")
    await scheduler.run_now("often")
    handle = await scheduler.schedule_immediate_task("pool", len, args=[[1, 2]], executor="processpool")
    await run_once(scheduler)
    assert ran == ["often"]
    assert (await handle.result(timeout=5)).success
    await scheduler.modify_job("often", args=["changed"])
    await scheduler.reschedule_job("often", interval=60)
    await scheduler.pause_job("often")
    await scheduler.resume_job("often")
    await scheduler.run_now("often")
    await run_once(scheduler)
    assert ran == ["often", "changed"]


def forged(how: str, record: bytes) -> bytes:
    """What somebody makes of a job's record who can write to Redis, but has no key."""
    version, seal, body, payload = msgpack.unpackb(record)
    if how == "other arguments":
        payload = pack_payload(["forged"], {})
    elif how == "other task":
        body = body.replace(TASK.encode(), TASK.encode()[::-1])
    elif how == "no seal":
        return Record(TASK, TASK, pack_payload(["forged"], {}), {}).pack()
    elif how == "cut seal":
        seal = seal[:20]
    elif how == "called signed":
        seal = b"s" + seal[1:]
    return msgpack.packb([version, seal, body, payload])


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
@pytest.mark.parametrize("how", ["other arguments", "other task", "no seal", "cut seal"])
@pytest.mark.parametrize("kind", ["one-shot", "periodic"])
async def test_what_was_not_signed_is_never_run_and_ends_dead(kind: str, how: str, encrypt: bool, make: Make) -> None:
    scheduler = make(OLD, encrypt=encrypt)
    if kind == "one-shot":
        await scheduler.schedule_delayed_task("job", note, delay_minutes=5, args=["true"], job_id="job")
    else:
        await scheduler.schedule_interval("job", note, seconds=3600, args=["true"], job_id="job")
        await scheduler.run_now("job")
    await put(scheduler, "job", forged(how, await stored(scheduler, "job")))
    await scheduler.schedule_immediate_task("good", note, args=["good"])
    await run_once(scheduler)
    assert ran == ["good"]
    assert ("dead", "untrusted") in await ends(scheduler, "job")
    view = (await scheduler.get_dead())[0]
    assert view.task == "?"


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
async def test_a_record_cannot_be_moved_to_another_job_nor_to_another_prefix(
    encrypt: bool, make: Make, redsched_url: str
) -> None:
    scheduler = make(OLD, encrypt=encrypt)
    await scheduler.schedule_delayed_task("pay 5", note, delay_minutes=5, args=[5], job_id="one")
    await put(scheduler, "two", await stored(scheduler, "one"))
    security = PayloadSecurity([OLD], encrypt=encrypt)
    elsewhere = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False, payload_security=security)
    elsewhere.register(note)
    await put(elsewhere, "one", await stored(scheduler, "one"))
    await run_once(scheduler)
    await run_once(elsewhere)
    assert ran == []
    assert await ends(scheduler, "two") == await ends(elsewhere, "one") == [("dead", "untrusted")]
    await elsewhere.clear_all_jobs()
    await elsewhere.shutdown()


async def test_an_encrypted_record_that_is_called_signed_is_none(make: Make) -> None:
    scheduler = make(OLD, encrypt=True)
    await scheduler.schedule_delayed_task("job", note, delay_minutes=5, args=["true"], job_id="job")
    await put(scheduler, "job", forged("called signed", await stored(scheduler, "job")))
    await run_once(scheduler)
    assert ran == []
    assert await ends(scheduler, "job") == [("dead", "untrusted")]


async def test_a_result_of_somebody_else_is_refused(make: Make) -> None:
    scheduler = make(OLD)
    for job_id in ("one", "two"):
        await scheduler.schedule_immediate_task("job", note, args=[job_id], job_id=job_id)
    await run_once(scheduler)
    shard = (await scheduler.store()).shards[0]
    of_two = await shard.link.command("GET", shard.keys.result("two"))
    for data in (of_two, msgpack.packb("forged"), of_two[:30]):
        await shard.link.command("SET", shard.keys.result("one"), data)
        with pytest.raises(UntrustedRecordError):
            await scheduler.wait_for_result("one", timeout=5)


# -- rotation, and the beginning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
async def test_a_key_is_rotated_without_losing_a_job(encrypt: bool, make: Make) -> None:
    before = make(OLD, encrypt=encrypt)
    await before.schedule_delayed_task("job", note, delay_minutes=5, args=["kept"], job_id="job", tags=["t"])
    await before.schedule_cron("cron", note, "0 8 * * *", args=["cron"], job_id="cron", timezone="Europe/Berlin")
    paused = await before.schedule_at("later", note, "2100-01-01T00:00:00Z", args=["later"], job_id="later")
    await paused.pause()
    due = (await before.get_job("cron")).next_run_time  # type: ignore[union-attr]
    both = make(NEW, OLD, encrypt=encrypt)
    assert await both.reseal_jobs() == 3
    assert await both.reseal_jobs() == 0
    after = make(NEW, encrypt=encrypt)
    views = {job.id: job for job in await after.get_jobs()}
    assert views["cron"].next_run_time == due
    assert views["later"].state is State.PAUSED
    await after.run_now("job")
    await after.run_now("cron")
    await run_once(after)
    assert sorted(ran) == ["cron", "kept"]


async def test_a_worker_leaves_what_was_sealed_with_a_key_that_it_lacks_to_others(make: Make) -> None:
    """In the middle of a rotation nothing is lost, and nothing runs unverified."""
    newer, older = make(NEW, OLD), make(OLD)
    await newer.schedule_immediate_task("job", note, args=["job"], job_id="job")
    await run_once(older)
    assert ran == []
    assert await ends(newer, "job") == [("postponed", "unreadable")]
    view = await older.get_job("job")
    assert view is not None
    assert view.state is State.SCHEDULED
    await newer.run_now("job")
    await run_once(newer)
    assert ran == ["job"]


async def test_a_fleet_begins_to_use_keys_without_losing_a_job(make: Make) -> None:
    plain = make()
    await plain.schedule_delayed_task("job", note, delay_minutes=5, args=["unsigned"], job_id="job")
    both = make(OLD, accept_unsigned=True)
    await both.run_now("job")
    await run_once(both)
    assert ran == ["unsigned"]
    await plain.schedule_delayed_task("next", note, delay_minutes=5, args=["next"], job_id="next")
    assert await both.reseal_jobs() == 1
    strict = make(OLD)
    await strict.run_now("next")
    await run_once(strict)
    assert ran == ["unsigned", "next"]


async def test_a_worker_without_keys_runs_what_is_signed_and_leaves_what_is_encrypted(make: Make) -> None:
    signs, hides, plain = make(OLD), make(OLD, encrypt=True), make()
    await signs.schedule_immediate_task("job", note, args=["signed"], job_id="signed")
    await hides.schedule_immediate_task("job", note, args=["hidden"], job_id="hidden")
    view = await plain.get_job("hidden")
    assert view is not None
    assert (view.encrypted, view.args, view.task) == (True, (), TASK)
    await run_once(plain)
    assert ran == ["signed"]
    assert await ends(plain, "hidden") == [("postponed", "unreadable")]
    await hides.run_now("hidden")
    await run_once(hides)
    with pytest.raises(UnknownKeyError):
        await plain.wait_for_result("hidden", timeout=5)


async def test_who_has_no_key_can_stop_a_job_but_not_change_it(make: Make) -> None:
    signs, plain = make(OLD), make()
    await signs.schedule_cron("job", note, "0 8 * * *", args=["as signed"], job_id="job")
    for change in (plain.modify_job("job", args=["forged"]), plain.reschedule_job("job", cron="* * * * *")):
        with pytest.raises(UnknownKeyError, match="no keys to change it"):
            await change
    await plain.pause_job("job")
    await plain.resume_job("job")
    await plain.run_now("job")
    await run_once(signs)
    assert ran == ["as signed"]
    assert await plain.cancel("job")
    with pytest.raises(InvalidInputError, match="no key to seal with"):
        await plain.reseal_jobs()


async def test_what_cannot_be_trusted_is_not_sealed(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = make(OLD)
    await put(scheduler, "planted", Record(TASK, TASK, pack_payload(["forged"], {}), {}).pack())
    assert await scheduler.reseal_jobs() == 0
    assert "planted" in caplog.text


async def test_a_declared_job_is_sealed_when_keys_begin_or_change(make: Make) -> None:
    from redsched import schedule_task

    for keys in ((), (OLD,), (NEW, OLD)):
        for status in ("updated" if keys else "added", "kept"):
            scheduler = make(*keys)
            schedule_task(scheduler=scheduler, cron="0 8 * * *", job_id="daily")(note)
            await scheduler.start(worker=False)
            assert [job.status for job in scheduler.declared_jobs] == [status]
            await scheduler.shutdown()
    strict = make(NEW)
    view = await strict.get_job("daily")
    assert view is not None
    assert view.task == TASK


def test_encryption_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from redsched.codec import payload_security as sealing

    sealing._cipher.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(InvalidConfigError, match=r"redsched\[crypto\]"):
        PayloadSecurity([OLD], encrypt=True)
    PayloadSecurity([OLD])
    sealing._cipher.cache_clear()
