"""Data of another program in Redis cannot exhaust a process that reads it: sizes, counts and nesting have limits."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import msgpack
import pytest

from redsched import BackgroundTaskScheduler, EncodingError, PayloadSecurity, StoreReplyError, UntrustedRecordError
from redsched.codec.extensions import MAX_DIGITS
from redsched.codec.payload_security import Sealer
from redsched.codec.untrusted import MAX_CONTAINERS, MAX_NESTING
from redsched.codec.values import (
    MAX_FOREIGN_BYTES,
    Record,
    pack_payload,
    pack_result,
    unpack_foreign,
    unpack_payload,
    unpack_progress,
    unpack_result,
)
from redsched.store import link as link_module
from redsched.store.transitions import Shard
from redsched.testing import Kit

ran: list[Any] = []


async def note(value: Any = None) -> Any:
    ran.append(value)
    return value


TASK = f"{note.__module__}.note"


@pytest.fixture
async def shard(redsched_kit: Kit) -> AsyncIterator[Shard]:
    ran.clear()
    redsched_kit.scheduler.register(note)
    yield (await redsched_kit.scheduler.store()).shards[0]


async def plant(shard: Shard, job_id: str, record: bytes, *fields: Any, score: float | str = 1) -> None:
    """A job as somebody with access to Redis would store it."""
    await shard.link.command("HSET", shard.keys.job(job_id), "record", record, *fields)
    await shard.link.command("ZADD", shard.keys.due("default"), score, job_id)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# -- the codec ------------------------------------------------------------------------------------------------------


def test_what_may_be_stored_can_be_read_and_one_level_deeper_is_neither() -> None:
    deepest = nested(MAX_NESTING - 2)  # in the list of arguments, in the pair of arguments
    payload = pack_payload([deepest], {})
    assert unpack_payload(payload) == ([deepest], {})
    with pytest.raises(EncodingError, match=f"more than {MAX_NESTING} deep"):
        pack_payload([nested(MAX_NESTING - 1)], {})
    deeper = msgpack.packb(([nested(MAX_NESTING - 1)], {}))
    with pytest.raises(EncodingError, match=f"more than {MAX_NESTING} deep"):
        unpack_payload(deeper)
    assert unpack_result(pack_result(nested(MAX_NESTING))) == nested(MAX_NESTING)
    with pytest.raises(EncodingError, match=f"more than {MAX_NESTING} deep"):
        pack_result(nested(MAX_NESTING + 1))


def test_wide_data_is_not_taken_for_deep() -> None:
    rows = [{"name": f"order {n}", "items": [n, [n + 1]]} for n in range(2000)]
    assert unpack_payload(pack_payload([rows], {"more": rows})) == ([rows], {"more": rows})


def test_bytes_that_look_like_lists_are_not_taken_for_deep() -> None:
    value = bytes([0x91]) * 10_000
    assert unpack_payload(pack_payload([value, "ä" * 1000], {})) == ([value, "ä" * 1000], {})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x91" * 200_000 + b"\x01", id="200,000 levels"),
        pytest.param(b"\xdd\xff\xff\xff\xff" * 1000, id="lists that claim four billion items each"),
        pytest.param(b"\xdd\x00\x0f\xff\xff" * 200_000, id="a million lists of a million items that are not there"),
        pytest.param(b"\xdf\x00\x0f\xff\xff" * 200_000, id="maps"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="a text of four gigabytes that is not there"),
    ],
)
def test_hostile_bytes_are_refused_without_memory_for_what_they_claim(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for decode in (unpack_payload, unpack_result, unpack_foreign, Record.unpack):
        with pytest.raises(EncodingError):
            decode(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def seconds(decode: Callable[[bytes], Any], data: bytes) -> float:
    started = time.process_time()
    with contextlib.suppress(EncodingError):
        decode(data)
    return time.process_time() - started


def colliding(count: int) -> bytes:
    """A map whose keys are UUIDs of one hash."""
    prime = sys.hash_info.modulus
    keys = [(7 + n * prime).to_bytes(16, "big") for n in range(count)]
    return b"\xdf" + count.to_bytes(4, "big") + b"".join(b"\xd8\x05" + key + b"\xc0" for key in keys)


@pytest.mark.parametrize("decode", [unpack_payload, unpack_result, unpack_foreign, unpack_progress, Record.unpack])
def test_keys_whose_hashes_collide_are_refused_before_they_are_hashed(decode: Callable[[bytes], Any]) -> None:
    assert hash(uuid.UUID(int=7)) == hash(uuid.UUID(int=7 + sys.hash_info.modulus)), "the attack that is meant"
    for data in (colliding(16_000), b"\x92" + colliding(16_000) + b"\x80"):
        assert seconds(decode, data) < 1  # 16,000 take more than ten when each is compared with all before it
        with pytest.raises(EncodingError):
            decode(data)


@pytest.mark.parametrize("one", [b"\x80", b"\x90", b"\x91\xc0", b"\x81\xc0\xc0"], ids=["{}", "[]", "[None]", "{None}"])
@pytest.mark.parametrize("decode", [unpack_payload, unpack_result, unpack_foreign, unpack_progress, Record.unpack])
def test_the_lists_and_maps_of_one_value_have_a_bound(decode: Callable[[bytes], Any], one: bytes) -> None:
    count = MAX_FOREIGN_BYTES // len(one) - 5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EncodingError):
        decode(b"\xdd" + count.to_bytes(4, "big") + one * count)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; four million maps take 250,000


def test_as_many_lists_and_maps_as_may_be_stored_can_be_read() -> None:
    most = [[] for _ in range(MAX_CONTAINERS - 4)]
    assert unpack_payload(pack_payload([most], {})) == ([most], {})
    with pytest.raises(EncodingError, match=f"more than {MAX_CONTAINERS:,} lists and maps"):
        pack_payload([[*most, [], []]], {}, limit=10_000_000)


def test_a_decimal_may_have_as_many_digits_as_are_read() -> None:
    assert unpack_result(pack_result(Decimal("9" * MAX_DIGITS))) == Decimal("9" * MAX_DIGITS)
    with pytest.raises(EncodingError, match="digits"):
        pack_result(Decimal("9" * (MAX_DIGITS + 1)))


def test_the_seal_is_opened_before_what_it_seals_is_decoded() -> None:
    sealer = Sealer(PayloadSecurity(["k" * 32]), "shop")
    forged = msgpack.packb((2, b"s" + sealer.label[1:] + b"x" * 32, colliding(16_000), colliding(16_000)))
    with pytest.raises(UntrustedRecordError):
        Record.unpack(forged, "job", sealer)
    with pytest.raises(UntrustedRecordError):
        Record.unpack(msgpack.packb((1, "task", None, b"", {"a": [1]})), "job", sealer)
    with pytest.raises(EncodingError):  # the outer list holds nothing but bytes
        Record.unpack(b"\x94\x02" + b"\x90" * 3, "job", sealer)


def test_what_others_tell_has_a_length() -> None:
    with pytest.raises(EncodingError, match="at most"):
        unpack_foreign(b"\xc0" * (MAX_FOREIGN_BYTES + 1))


@pytest.mark.parametrize(
    "fields",
    [
        (1, ["task"], None, b"", None),
        (1, "task", 5, b"", None),
        (1, "task", None, "text", None),
        (1, "t", None, b"", 7),
    ],
)
def test_a_record_of_other_types_is_none(fields: Any) -> None:
    with pytest.raises(EncodingError, match=r"types|not a map"):
        Record.unpack(msgpack.packb(fields))


# -- a worker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one-shot", "periodic", "planned"])
async def test_a_record_that_is_too_long_is_not_sent_and_its_run_ends_dead(
    kind: str, shard: Shard, redsched_kit: Kit
) -> None:
    scheduler = redsched_kit.scheduler
    hour = await shard.travel() + 3_600_000
    more = {"one-shot": (), "periodic": ("periodic", 1, "next_ms", 1, "after_ms", hour)}
    long = b"\xc4" * 40_000_000
    await plant(shard, "planted", long, *more.get(kind, ("periodic", 1, "next_ms", 1)))
    neighbour = await scheduler.schedule_immediate_task("good", note, args=["good"])
    received = 0
    exchange = shard.link._exchange

    async def counting(connection: Any, command: Any) -> Any:
        nonlocal received
        reply = await exchange(connection, command)
        received += len(repr(reply))
        return reply

    shard.link._exchange = counting  # type: ignore[method-assign]
    await scheduler.make_worker().run_once()
    assert ran == ["good"]
    assert (await neighbour.result(timeout=5)).success
    [event] = [e for e in await scheduler.get_history("planted") if e.kind == "dead"]
    assert event.reason == "unreadable"
    assert "40,000,000 bytes" in str(event.error)
    view = await scheduler.get_job("planted")
    assert view is not None
    assert "40,000," in str(view.error) or view.error == event.error
    await scheduler.get_dead()
    assert received < 1_000_000, "the record was sent"


async def test_many_long_records_come_in_several_replies(redsched_url: str, redsched_kit: Kit, shard: Shard) -> None:
    big = b"x" * 1_200_000
    for n in range(60):
        await plant(shard, f"big-{n}", Record(TASK, "big", pack_payload([big], {}, limit=2_000_000), {}).pack())
    worker = redsched_kit.scheduler.make_worker()
    longest = 0
    poll = shard.poll

    async def measured(*args: Any, **how: Any) -> Any:
        nonlocal longest
        reply = await poll(*args, **how)
        longest = max(longest, sum(len(row[4]) for row in reply.claims))
        return reply

    shard.poll = measured  # type: ignore[method-assign]
    await worker.run_once()
    assert len(ran) == 60
    assert longest < 20_000_000
    for n in range(60):
        await plant(shard, f"more-{n}", Record(TASK, "big", pack_payload([big], {}, limit=2_000_000), {}).pack())
    assert len(await redsched_kit.scheduler.get_jobs()) == 60


@pytest.mark.parametrize(
    ("fields", "score"),
    [
        pytest.param(("periodic", 1), 1, id="a periodic job without its next fire"),
        pytest.param(("periodic", 1, "next_ms", "tomorrow", "after_ms", "x"), 1, id="fires that are not numbers"),
        pytest.param(("periodic", 1, "next_ms", "9" * 30), 1, id="a fire in the year 10^19"),
        pytest.param(("fire_ms", "x"), 1, id="a fire time that is not a number"),
        pytest.param((), "-inf", id="due before all time"),
        pytest.param(("attempt", "x", "begun", "y", "postponed", "z"), 1, id="counters that are not numbers"),
        pytest.param(("tags", "\xc1", "requests", "x"), 1, id="tags that cannot be decoded"),
    ],
)
async def test_a_job_with_fields_of_nonsense_stops_nobody(
    fields: tuple[Any, ...], score: float | str, shard: Shard, redsched_kit: Kit
) -> None:
    scheduler = redsched_kit.scheduler
    await plant(
        shard, "planted", Record(TASK, "planted", pack_payload(["planted"], {}), {}).pack(), *fields, score=score
    )
    neighbour = await scheduler.schedule_immediate_task("good", note, args=["good"])
    await scheduler.make_worker().run_once()
    assert "good" in ran
    assert (await neighbour.result(timeout=5)).success
    ended = [(e.kind, e.reason) for e in await scheduler.get_history("planted") if e.kind in ("dead", "done")]
    assert ended in ([("dead", "unreadable")], [("done", None)])
    assert await shard.link.command("ZCARD", shard.keys.due("default")) == 0
    await scheduler.get_jobs()


async def test_keys_of_another_type_and_names_that_are_no_text_stop_nobody(shard: Shard, redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    keys = shard.keys
    await shard.link.command("SET", keys.job("a string"), "x" * 1000)
    await shard.link.command("ZADD", keys.due("default"), 1, "a string", 1, "a string@5", 1, "nobody", 1, b"\xff\xfe")
    await shard.link.command("HSET", f"{keys.tag}job:".encode() + b"\xff\xfe", "record", b"\x00")
    await shard.link.command("SET", keys.run("a run@7"), "x")
    await shard.link.command("ZADD", keys.leases, 1, "a string", 1, "a run@7", 1, "nobody")
    await shard.link.command("ZADD", keys.dead, 1, "a string", 1, "nobody")
    await shard.link.command("RPUSH", keys.mail(scheduler.id), b"\xff\xff\xff")
    await scheduler.schedule_immediate_task("good", note, args=["good"], job_id="good")
    await scheduler.start()
    await redsched_kit.wait_for("done", "good")
    await scheduler.schedule_immediate_task("good", note, args=["again"], job_id="again")
    await redsched_kit.wait_for("done", "again")
    assert ran == ["good", "again"]
    assert await scheduler.get_jobs() == []
    assert {(e.job_id, e.reason) for e in redsched_kit.events if e.kind == "dead"} >= {("a string", "unreadable")}


async def test_a_batch_of_fires_that_is_none_ends_dead(shard: Shard, redsched_kit: Kit) -> None:
    fires = msgpack.packb(nested(50))
    record = Record(TASK, "planted", pack_payload([], {}), {}).pack()
    await shard.link.command("HSET", shard.keys.job("planted"), "record", record, "state", "paused")
    await shard.link.command("HSET", shard.keys.run("planted@5"), "job", "planted", "fire_ms", 5, "fires", fires)
    await shard.link.command("SADD", shard.keys.waiting("planted"), "planted@5")
    await shard.link.command("ZADD", shard.keys.due("default"), 1, "planted@5")
    await redsched_kit.scheduler.schedule_immediate_task("good", note, args=["good"])
    await redsched_kit.scheduler.make_worker().run_once()
    assert ran == ["good"]
    assert [job.reason for job in await redsched_kit.scheduler.get_dead()] == ["unreadable"]


async def test_one_job_that_cannot_be_shown_does_not_hide_the_others(shard: Shard, redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("good", note, delay_minutes=5, job_id="good")
    record = Record(TASK, "planted", pack_payload([], {}), {"timezone": "Mars/Phobos", "tags": 5}).pack()
    await plant(shard, "planted", record, "progress", b"\xc1", "state", "asleep", score=2_000_000_000_000)
    views = {job.id: job for job in await scheduler.get_jobs()}
    assert views["good"].name == "good"
    assert views["planted"].reason == "unreadable"


# -- events, heartbeats, results ------------------------------------------------------------------------------------


async def test_entries_of_the_events_that_are_none_are_passed_over(shard: Shard, redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    for fields in (
        ("nonsense", "x"),
        ("at", "yesterday", "by", "me"),
        ("at", 5, "by", "me", "settled", b"\x91" * 5000),
        ("at", 5, "by", "me", "settled", msgpack.packb([[1]])),
        ("at", 5, "by", "me", "moved", b"\xdd\xff\xff\xff\xff"),
    ):
        await shard.link.command("XADD", shard.keys.events, "*", *fields)
    await scheduler.schedule_immediate_task("good", note, job_id="good")
    await redsched_kit.wait_for("done", "good")
    assert [e.kind for e in await scheduler.get_history("good")] == ["scheduled", "claimed", "done"]


async def test_an_entry_of_many_megabytes_is_passed_over(
    shard: Shard, redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "MAX_REPLY_BYTES", 5_000_000)
    scheduler = redsched_kit.scheduler
    await shard.link.command("XADD", shard.keys.events, "*", "at", 5, "by", "me", "settled", b"x" * 8_000_000)
    with pytest.raises(StoreReplyError, match="more than 5,000,000 bytes"):
        await scheduler.get_history()
    await scheduler.start()
    await scheduler.schedule_immediate_task("good", note, job_id="good")
    await redsched_kit.wait_for("done", "good")


@pytest.mark.parametrize("told", [b"\x91" * 5000 + b"\x01", b"\xc1", b"\x05", b"\xdd\xff\xff\xff\xff"])
async def test_a_worker_that_tells_nonsense_of_itself_is_not_shown(
    told: bytes, shard: Shard, redsched_kit: Kit
) -> None:
    await redsched_kit.scheduler.start()
    await shard.link.command("ZADD", shard.keys.workers, 1, "stranger")
    await shard.link.command("HSET", shard.keys.worker("stranger"), "info", told)
    await redsched_kit.scheduler.schedule_immediate_task("good", note, job_id="good")
    await redsched_kit.wait_for("done", "good")
    assert list(await redsched_kit.scheduler.get_workers()) == [redsched_kit.scheduler.id]


@pytest.mark.parametrize("result", [b"\x91" * 5000 + b"\x01", b"\xc1", b"\xc6\x02\xfa\xf0\x80" + b"x" * 50_000_000])
async def test_a_result_that_is_none_is_an_error_of_whoever_asks(
    result: bytes, shard: Shard, redsched_kit: Kit
) -> None:
    scheduler: BackgroundTaskScheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("good", note, args=["x"], job_id="good")
    await scheduler.make_worker().run_once()
    await shard.link.command("SET", shard.keys.result("good"), result)
    with pytest.raises(EncodingError):
        await scheduler.wait_for_result("good", timeout=5)
