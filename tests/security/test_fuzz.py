"""Whatever bytes or text come in: our own exceptions, in time that is linear in their length, and nothing runs.

The files of `tests/corpus/<target>/` are replayed each time, and are where the mutations start from. `FUZZ_EXAMPLES`
sets how many are made for each target; in the long form (more than the default) a finding is left in the corpus as
`found`: give it a name that says what it was.
"""

from __future__ import annotations

import os
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redsched import BackgroundTaskScheduler, CronSchedule, PayloadSecurity, RedschedError, SchedulerConfig
from redsched.client.events import decode_entry
from redsched.client.outcomes import Ended
from redsched.codec.payload_security import Sealer
from redsched.codec.values import Record, pack_payload, unpack_foreign, unpack_payload, unpack_progress, unpack_result
from redsched.doctor.stored_fields import FIELDS, odd_fields
from redsched.jobs.record import Job
from redsched.jobs.view import view_of
from redsched.schedules import schedule_from_wire
from redsched.store.clock import StoreClock
from redsched.store.queries import StoredJob
from redsched.store.urls import parse_url
from redsched.worker.planning import plan_row
from redsched.worker.worker import Worker

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
USUAL = 150
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", USUAL))
AT_MOST_S = 0.2
"""Of CPU, for an input of the length that the tests make: what holds a loop for longer is a finding."""
SECURITY = PayloadSecurity(["k" * 32])
SEALER = Sealer(SECURITY, "fuzz")

# -- what must not run ------------------------------------------------------------------------------------------------

ran: list[str] = []
watched = False
STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pickle.find_class"}


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if watched and event in STARTS:
        ran.append(f"{event} {args!r}")


sys.addaudithook(_watch)


def within(target: Callable[[Any], Any], data: Any, *expected: type[Exception]) -> None:
    """Call the target; only redsched's own exceptions, or those that are named, may come out of it."""
    global watched
    ran.clear()
    watched, began = True, time.thread_time()
    try:
        target(data)
    except (RedschedError, *expected):
        pass
    except Exception:
        _leave(target.__name__, data)
        raise
    finally:
        watched, took = False, time.thread_time() - began
    if took >= AT_MOST_S:  # again: the first call of its kind fills caches
        began = time.thread_time()
        try:
            target(data)
        except (RedschedError, *expected):
            pass
        took = time.thread_time() - began
    if took >= AT_MOST_S or ran:
        _leave(target.__name__, data)
    assert took < AT_MOST_S, f"{len(data)} bytes or characters take {took:.2f} s"
    assert not ran


def _leave(name: str, data: Any) -> None:
    if EXAMPLES > USUAL:
        raw = data if isinstance(data, bytes) else str(data).encode(errors="surrogatepass")
        (CORPUS / name / "found").write_bytes(raw)


# -- what comes in ----------------------------------------------------------------------------------------------------


@cache
def corpus(name: str) -> tuple[bytes, ...]:
    """The files of a target."""
    return tuple(file.read_bytes() for file in sorted((CORPUS / name).iterdir()))


def _mutated(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, new in changes:
        at %= len(data) + 1
        data = data[:at] + new + data[at + length :]
    return data


BEGINNINGS = (b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\x00\x01\x00\x00", b"\xc9\x7f")
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 5000),
        st.integers(0, 12),
        st.binary(max_size=8) | st.sampled_from(BEGINNINGS),
    ),
    max_size=6,
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=12)
    | st.binary(max_size=12) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=8) | st.integers(0, 99), inner, max_size=6)
    ),
    max_leaves=30,
)


def _packed(value: Any) -> bytes:
    return msgpack.packb(value, unicode_errors="surrogatepass") or b""


def bytes_for(name: str) -> st.SearchStrategy[bytes]:
    """Files of the corpus, changed; any value that msgpack carries; any bytes."""
    return st.builds(_mutated, st.sampled_from(corpus(name)), CHANGES) | VALUES.map(_packed) | st.binary(max_size=200)


def texts_for(name: str) -> st.SearchStrategy[str]:
    """Files of the corpus, and any text, in pieces that are put together."""
    whole = [data.decode(errors="surrogateescape") for data in corpus(name)]
    pieces = sorted({piece for text in whole for piece in _pieces(text)})
    part = st.sampled_from(pieces) | st.text(max_size=4)
    return st.sampled_from(whole) | st.lists(part, max_size=16).map("".join) | st.text(max_size=60)


def _pieces(text: str) -> Iterator[str]:
    yield from (text[at : at + 4] for at in range(0, min(len(text), 200), 3))
    yield from text.split()
    yield from (":", "/", "@", "?", "=", "&", "*", ",", "-", "#", "[", "]", "%", " ", "\n")


def fuzz(made: Callable[[str], st.SearchStrategy[Any]], name: str) -> Callable[[Any], Any]:
    """A test of many inputs of a target, and of each file of its corpus."""

    def decorate(test: Callable[[Any], None]) -> Any:
        for data in corpus(name):
            test = example(data if made is bytes_for else data.decode(errors="surrogateescape"))(test)
        limits = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        return limits(given(made(name))(test))

    return decorate


# -- the targets ------------------------------------------------------------------------------------------------------


def records(data: bytes) -> None:
    for sealer in (None, SEALER):
        try:
            job = Job.decode("job", data, sealer)
            unpack_payload(job.record.payload)
        except RedschedError:
            continue


def values(data: bytes) -> None:
    for unpack in (unpack_payload, unpack_result, unpack_progress, unpack_foreign):
        try:
            unpack(data)
        except RedschedError:
            continue


def events(data: bytes) -> None:
    for field in (b"settled", b"moved", b"stalled", b"scheduled", b"claimed", b"refused", b"at", b"by"):
        try:
            for event in decode_entry("1-0", {b"at": b"1", b"by": b"w", field: data}):
                repr(event)
                assert isinstance(event.kind, str)
        except AssertionError:
            raise
        except Exception:  # an entry that is none: readers skip it, whatever it raises
            continue


def outcomes(data: bytes) -> None:
    for answer in ([b"ended", data, False, False], [b"dead", data, data, [data, data, data, data, data]]):
        Ended.of("run", answer)


def views(data: bytes) -> None:
    record = Record("task", "name", pack_payload([], {}), {}).pack()
    for field in FIELDS["job"]:
        view = view_of(StoredJob("job", {"record": record, field: data}, 1, 0, 0))
        repr(view)
    for kind in FIELDS:
        odd_fields(kind, {data[:20]: data, **{name.encode(): data for name in FIELDS[kind]}})


@cache
def _worker() -> Worker:
    return BackgroundTaskScheduler("redis://127.0.0.1:1", "fuzz", declared_tasks=False).make_worker()


def rows(data: bytes) -> None:
    plan_row(_worker(), StoreClock(), [b"job", 7, 1, 1, 0, False, data, b"default", 0])
    try:
        row = msgpack.unpackb(data, raw=True, strict_map_key=False)
    except Exception:
        row = [data]
    plan_row(_worker(), StoreClock(), row if isinstance(row, list) else [row])


def schedules(data: bytes) -> None:
    wire = unpack_foreign(data)
    schedule = schedule_from_wire(wire)
    schedule.next(1_700_000_000_000)


def urls(text: str) -> None:
    parse_url(text)


def cron(text: str) -> None:
    for seconds in ("last", "first"):
        try:
            schedule = CronSchedule(text, "Europe/Berlin", seconds=seconds)
        except RedschedError:
            continue
        schedule.next(1_700_000_000_000)
        schedule.describe()


def environments(text: str) -> None:
    lines = [line.partition("=") for line in text.splitlines()]
    SchedulerConfig.from_env({f"REDSCHED_{name}": value for name, _, value in lines})


# -- the promises -----------------------------------------------------------------------------------------------------


@fuzz(bytes_for, "records")
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    within(records, data)


@fuzz(bytes_for, "values")
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    within(values, data)


@fuzz(bytes_for, "events")
def test_any_bytes_are_events_or_refused(data: bytes) -> None:
    within(events, data)


@fuzz(bytes_for, "outcomes")
def test_any_bytes_are_an_outcome_or_none(data: bytes) -> None:
    within(outcomes, data)


@fuzz(bytes_for, "views")
def test_any_bytes_in_any_field_can_be_shown(data: bytes) -> None:
    within(views, data)


@fuzz(bytes_for, "rows")
def test_any_row_of_plans_is_answered_or_passed_over(data: bytes) -> None:
    within(rows, data)


@fuzz(bytes_for, "schedules")
def test_any_stored_schedule_has_a_next_fire_or_is_refused(data: bytes) -> None:
    within(schedules, data)


@fuzz(texts_for, "urls")
def test_any_text_is_a_url_or_refused(text: str) -> None:
    within(urls, text)


@fuzz(texts_for, "cron")
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    within(cron, text)


@fuzz(texts_for, "environments")
def test_any_environment_is_a_configuration_or_refused(text: str) -> None:
    within(environments, text)


@pytest.fixture(scope="session")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "config.toml"


def test_any_file_is_a_configuration_or_refused(toml: Path) -> None:
    def files(text: str) -> None:
        toml.write_text(text, encoding="utf-8", errors="surrogateescape")
        SchedulerConfig.from_toml(toml)

    @fuzz(texts_for, "files")
    def check(text: str) -> None:
        within(files, text)

    check()


def test_the_corpus_holds_what_is_read_and_what_is_refused() -> None:
    def is_read(target: Callable[[Any], Any], data: Any) -> bool:
        try:
            target(data)
        except RedschedError:
            return False
        return True

    for name, target in (
        ("records", lambda data: Job.decode("job", data)),
        ("values", unpack_foreign),
        ("schedules", schedules),
        ("urls", lambda data: urls(data.decode(errors="surrogateescape"))),
        ("cron", lambda data: CronSchedule(data.decode(errors="surrogateescape"), "UTC")),
        ("environments", lambda data: environments(data.decode(errors="surrogateescape"))),
        ("files", lambda data: tomllib.loads(data.decode()) or SchedulerConfig()),
    ):
        if name == "files":
            continue
        assert {is_read(target, data) for data in corpus(name)} == {True, False}, f"{name}: of one kind only"
