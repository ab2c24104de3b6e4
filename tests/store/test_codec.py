"""What goes into Redis comes out of it as it was, or is refused at the door with the place where it is."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsched import BackgroundTaskScheduler, Reason, State
from redsched.codec import values as codec
from redsched.codec.values import (
    MAX_PAYLOAD_BYTES,
    Record,
    pack_payload,
    pack_result,
    unpack_payload,
    unpack_result,
)
from redsched.errors import EncodingError, PayloadTooLargeError, RecordVersionError
from redsched.store.store import Store
from redsched.testing import Kit
from tests.store.raw import Raw

ZONES = [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), timezone(timedelta(hours=5, minutes=45))]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from(ZONES))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
KEYS = st.text() | st.binary() | st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.none()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


def same(before: Any, after: Any) -> bool:
    """Equal, of the same type, and an instant at the same offset from UTC."""
    if isinstance(before, list):
        return type(after) is list and len(before) == len(after) and all(map(same, before, after))
    if isinstance(before, dict):
        return type(after) is dict and list(before) == list(after) and all(same(before[k], after[k]) for k in before)
    if isinstance(before, datetime) and before.tzinfo is not None:
        # An instant in a zone's fold is not equal to anything in another zone: compare what it says.
        return before.utcoffset() == after.utcoffset() and before.replace(tzinfo=None) == after.replace(tzinfo=None)
    return type(before) is type(after) and before == after


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text(), VALUES, max_size=4))
def test_arguments_come_back_as_they_were(args: list[Any], kwargs: dict[str, Any]) -> None:
    got_args, got_kwargs = unpack_payload(pack_payload(args, kwargs))
    assert same(args, got_args)
    assert same(kwargs, got_kwargs)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_a_result_comes_back_as_it_was(value: Any) -> None:
    assert same(value, unpack_result(pack_result(value)))


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1), st.binary(), st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_record_comes_back_as_it_was(task: str, name: str, payload: bytes, options: dict[str, Any]) -> None:
    record = Record(task, name, payload, options)
    packed = record.pack()
    back = Record.unpack(packed)
    assert (back.task, back.name, back.payload) == (task, name, payload)
    assert same(options, back.options)
    assert packed == back.pack(), "the same record gives the same bytes"


@pytest.mark.parametrize("key", [(1, 2), date(2026, 1, 1), UUID(int=1), Decimal(1), timedelta(1)], ids=repr)
def test_a_dict_whose_keys_could_not_be_read_back_is_refused_and_the_key_is_named(key: Any) -> None:
    for pack in (lambda value: pack_payload([value], {}), lambda value: pack_payload([], {"a": [value]}), pack_result):
        with pytest.raises(EncodingError, match="keys must be str, bytes, int, float, bool or None") as error:
            pack({key: 1})
        assert repr(key) in str(error.value)


def test_a_float_that_is_no_number_comes_back() -> None:
    assert math.isnan(unpack_result(pack_result(math.nan)))
    assert unpack_result(pack_result([math.inf, -math.inf])) == [math.inf, -math.inf]


def test_a_datetime_keeps_its_offset_but_not_the_name_of_its_zone() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    back = unpack_result(pack_result(summer))
    assert back == summer
    assert back.utcoffset() == timedelta(hours=2)


def test_a_tuple_comes_back_as_a_list() -> None:
    assert unpack_result(pack_result((1, (2,)))) == [1, [2]]


class Thing:
    """A value that msgpack cannot encode."""


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("args", "kwargs", "where"),
    [
        ([1, Thing()], {}, "args[1]: Thing"),
        ([{"user": [0, Thing()]}], {}, "args[0]['user'][1]: Thing"),
        ([], {"when": {"at": {1, 2}}}, "kwargs['when']['at']: set"),
        ([2**64], {}, "args[0]: int"),
        ([-(2**63) - 1], {}, "args[0]: int"),
        (["\ud800"], {}, "args[0]: str"),
        ([{Thing: 1}], {}, "args[0] key"),
        ([LOOP], {}, "nested more than 100 deep, or in itself"),
        ([lambda: None], {}, "args[0]: function"),
        ([1j], {}, "args[0]: complex"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(args: list[Any], kwargs: dict[str, Any], where: str) -> None:
    with pytest.raises(EncodingError) as caught:
        pack_payload(args, kwargs)
    assert where in str(caught.value)
    assert ". Pass " in str(caught.value)
    assert caught.value.field == where[: where.index("s") + 1] or where.startswith("nested")


def test_a_result_that_cannot_be_stored_is_refused_with_its_place() -> None:
    with pytest.raises(EncodingError, match=r"result\['a'\]\[0\]: Thing"):
        pack_result({"a": [Thing()]})


def test_arguments_up_to_the_limit_are_taken_and_one_byte_more_is_not() -> None:
    empty = len(pack_payload([b"x" * 70_000], {})) - 70_000
    assert len(pack_payload([b"x" * (MAX_PAYLOAD_BYTES - empty)], {})) == MAX_PAYLOAD_BYTES
    with pytest.raises(PayloadTooLargeError, match="262,145 bytes encoded, above the limit of 262,144"):
        pack_payload([b"x" * (MAX_PAYLOAD_BYTES - empty + 1)], {})


def test_the_limit_is_the_callers() -> None:
    with pytest.raises(PayloadTooLargeError):
        pack_payload(["hello"], {}, limit=5)
    with pytest.raises(PayloadTooLargeError):
        pack_result("hello", limit=5)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_record_are_refused_as_such(data: bytes) -> None:
    try:
        record = Record.unpack(data)
    except (EncodingError, RecordVersionError):
        return
    assert isinstance(record, Record)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_arguments_are_refused_as_such(data: bytes) -> None:
    try:
        args, kwargs = unpack_payload(data)
    except EncodingError:
        return
    assert isinstance(args, list)
    assert isinstance(kwargs, dict)


def test_an_unknown_extension_is_refused_and_not_guessed() -> None:
    with pytest.raises(EncodingError, match="extension type 77"):
        unpack_payload(msgpack.packb([[msgpack.ExtType(77, b"?")], {}]))


def test_every_kind_of_value_that_the_message_promises_is_taken() -> None:
    values = [
        None, True, 1, 1.5, "text", b"bytes", [1], {"a": 1}, datetime(2026, 1, 1), date(2026, 1, 1), time(1, 2),
        timedelta(days=-1, microseconds=1), UUID(int=1), Decimal("1.10"),
    ]  # fmt: skip
    assert unpack_payload(pack_payload(values, {}))[0] == values


# -- versions -------------------------------------------------------------------------------------------------------


def newer(data: bytes) -> bytes:
    """The record as a later redsched might write it."""
    fields = msgpack.unpackb(data, strict_map_key=False)
    return msgpack.packb([codec.SEALED_VERSION + 1, *fields[1:], "a field that we do not know"])


def test_a_record_of_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(RecordVersionError, match=r"version 3; this redsched reads up to 2\. Upgrade"):
        Record.unpack(newer(Record("task", "name", b"", {}).pack()))


ran: list[str] = []


async def note(word: str) -> None:
    """A task."""
    ran.append(word)


@pytest.fixture
def scheduler(redsched_kit: Kit) -> BackgroundTaskScheduler:
    ran.clear()
    return redsched_kit.scheduler


@pytest.mark.parametrize("kind", ["one-shot", "periodic"])
async def test_a_worker_leaves_a_job_of_a_newer_version_to_newer_workers(
    kind: str, scheduler: BackgroundTaskScheduler, redsched_kit: Kit
) -> None:
    if kind == "one-shot":
        await scheduler.schedule_delayed_task("job", note, delay_seconds=1, args=["ran"], job_id="job")
    else:
        await scheduler.schedule_interval("job", note, seconds=60, args=["ran"], job_id="job")
    shard = (await scheduler.store()).shards[0]
    key = shard.keys.job("job")
    mine = await shard.link.command("HGET", key, "record")
    await shard.link.command("HSET", key, "record", newer(mine))
    await redsched_kit.travel(seconds=90)
    await scheduler.start()
    event = await redsched_kit.wait_for("postponed", "job")
    assert event.reason in (Reason.UNREADABLE, Reason.UNKNOWN_TASK)
    assert ran == []
    view = await scheduler.get_job("job")
    assert view is not None
    assert view.state is not State.DEAD
    assert view.attempt <= 1
    await redsched_kit.travel(minutes=10)
    apart = Store(scheduler.redis_url, scheduler.prefix)
    reply = await Raw(apart).worker("newer").poll(places=msgpack.packb({"default": ["record:3 default"]}))
    await apart.close()
    assert [row[0] for row in [*reply.claims, *reply.plans]] == [b"job"]
    assert [event.kind for event in await scheduler.get_history("job")].count("postponed") == 1


async def test_a_job_that_cannot_be_decoded_is_dead_with_that_reason_and_harms_no_other(
    scheduler: BackgroundTaskScheduler, redsched_kit: Kit
) -> None:
    await scheduler.schedule_delayed_task("bad", note, delay_seconds=1, args=["bad"], job_id="bad")
    await scheduler.schedule_delayed_task("good", note, delay_seconds=1, args=["good"], job_id="good")
    shard = (await scheduler.store()).shards[0]
    await shard.link.command("HSET", shard.keys.job("bad"), "record", b"\xc1 nonsense")
    await redsched_kit.travel(seconds=2)
    await scheduler.start()
    await redsched_kit.wait_for("done", "good")
    event = await redsched_kit.wait_for("dead", "bad")
    assert event.reason is Reason.UNREADABLE
    assert ran == ["good"]
