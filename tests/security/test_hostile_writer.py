"""Somebody writes any value of any type into any key, field, score and member, while honest work goes on beside it.

After each step: no process of the service ended and its loop did not stand still, nothing ran that was not registered,
an honest job that comes now runs once and its caller learns its result, one that came before runs once if its keys were
left alone, the reader of events and the metrics go on, an idle worker sends no more commands than one at work, each
command of the command line ends as it should, and doctor names what was written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from typer.testing import CliRunner

from redsched import BackgroundTaskScheduler, Outcome, PayloadSecurity, StoreError
from redsched.cli.exits import ExitCode
from redsched.cli.root import build
from redsched.codec.values import Record, pack_payload
from redsched.doctor.stored_fields import FIELDS as KNOWN_FIELDS
from redsched.doctor.traces import traces
from redsched.store import leftovers
from redsched.store.keys import KEY_TABLE, KINDS
from redsched.store.scripts import lua_folder
from redsched.testing import fresh_prefix
from tests.security import victim
from tests.servers import ROOT, LocalServer

STEPS = int(os.environ.get("HOSTILE_STEPS", "60"))
"""How many hostile writes are made; CONTRIBUTING.md tells of the long form."""
EXAMPLE_STEPS = 15
KEY = "k" * 32
STILL_S = 0.2
"""How long the loop may stand still."""
SENT = ("evalsha", "eval", "blpop", "xread", "xrevrange", "scan")
RATE = 60
"""Commands that a worker, a reader of events and the metrics may send in a second when there is nothing to do."""
LOAD_JOBS = 40
RUNS_WITHIN_S = 8.0
COMMAND_S = 3.0
"""How long a command of the command line may take, of its own CPU: what it waits for has its own limits."""
DELAY_S = 0.3

# -- what a hostile writer writes -----------------------------------------------------------------------------------

NOT_NUMBERS = (
    b"inf", b"-inf", b"nan", b"1e308", b"1e400", b"0x10", b"1.5", b" 1", b"99999999999999999999", b"9007199254740992",
    b"9007199254740993", b"-9223372036854775808",
)  # fmt: skip
"""Of which none is a number, an instant or a token that redsched writes."""
NUMBERS = st.sampled_from([*NOT_NUMBERS, b"0", b"-1", b"1", b"", b"1753000000000", b"4102444800000"])
NO_SCORES = ("inf", "-inf", "-1", "1e308", "9007199254740993")
SCORES = st.sampled_from([*NO_SCORES, "0", "1", "1.5", "4102444800000"])
TASKS = st.sampled_from(
    ["honest", "beat", "nowhere", "os.system", "tests.security.victim.unregistered", "tests.security.victim._private",
     "tests.security.victim.Service.other", "tests.security.victim.Service._hidden",
     "tests.security.victim.Service.__init__", "tests.security.victim.Service.public", "", "a" * 2000, "x\x1b[2J",
     "tests." + "a." * 500, "__main__.unregistered", "tests.security.victim.crimes.append", "this.s", "antigravity.fly",
     "tests.security.named.innocent", "tests.security.named.unregistered", "tests.security.named._private",
     "tests.security.named.anything", "tests.security.unnamed.x", "tests.security.named.__dict__.clear",
     "redsched.demo.tasks.bake", "a\u202eb\x9b"]
)  # fmt: skip


def flood(number: int, hash_of: int = 7) -> bytes:
    """A map whose keys are UUIDs of one hash."""
    keys = b"".join(b"\xd8\x05" + (hash_of + n * (2**61 - 1)).to_bytes(16, "big") + b"\xc0" for n in range(number))
    return b"\xdf" + number.to_bytes(4, "big") + keys


GARBAGE = (
    b"\xc1", b"\x80" * 100_000, b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, flood(4096),
    os.urandom(60) + b"\xff\xc1\xc1\xc1", b"\xff\xfe", b"\xc4" * 2_000_000,
)  # fmt: skip
"""Which are no text, no number, and nothing that redsched packs."""
BOMBS = st.sampled_from([*GARBAGE, b"", b"\xdd\x00\x01\x00\x00" + b"\x80" * 65_536])
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
KEYS_OF_MAPS = st.text(max_size=4) | st.integers(0, 9)
PLAIN = st.recursive(
    SCALARS | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS_OF_MAPS, inner, max_size=4),
    max_leaves=8,
)
PACKED = PLAIN.map(msgpack.packb)


def _record(task: str, options: Any) -> bytes:
    return Record(task, "planted", pack_payload([], {}), options).pack()


RECORDS = st.builds(
    _record,
    TASKS,
    st.sampled_from(
        [{}, {"schedule": ["interval", 1]}, {"schedule": ["cron", "* * * * *"]},
         {"schedule": ["any", [["any", []]] * 99]},
         {"schedule": ["cron", "*/7 * * * * *", "Nowhere/Else"]}, {"timezone": "/etc/passwd"}, {"retry": [1]},
         {"executor": "nowhere"}, {"executor": "processpool"}, {"timeout_ms": -1}, {"timeout_ms": "x"}, {"tags": 5},
         {"coalesce": "x", "max_instances": -5, "max_recoveries": 1e300, "misfire_grace_ms": []},
         {"circuit_breaker": []}, {"result_ttl_ms": -1}, {"result_ttl_ms": 2**63}, {"delivery": "never"}, {"queue": {}}]
    ),
)  # fmt: skip
VALUES = NUMBERS | BOMBS | PACKED | RECORDS
FIELDS = st.sampled_from(
    sorted(
        {name for fields in KNOWN_FIELDS.values() for name in fields} | {"f:x", "t:x", "s:x", "1", "ids 3", "odd", ""}
    )
)
IDS = ("planted", "planted@1", "planted@99999999999999999999", "@1", "a@b@5", b"\xff\xfe", "x" * 600, "lone")
NO_IDS = ("", b"\x00", b"\xff\xfe")
MEMBERS = st.sampled_from([*IDS, *NO_IDS, "{", "w", "local:w"])
TYPES = {
    "STRING": lambda value: ("SET", value),
    "LIST": lambda value: ("RPUSH", value),
    "SET": lambda value: ("SADD", value),
    "HASH": lambda value: ("HSET", "field", value),
    "ZSET": lambda value: ("ZADD", 1, value),
    "STREAM": lambda value: ("XADD", "*", "field", value),
}  # fmt: skip
"""By the type of a key, the command that makes one of it."""

# -- what is told of it -----------------------------------------------------------------------------------------------

IS_NUMBER = re.compile(
    r".*(_ms|_us|_bytes|fence|version)|attempt|recoveries|excused|postponed|begun|runs_left|max_\w+|committed|sequence"
    r"|layout|shards|outcomes|outcomes_from|paused_from|open_until|confirmed"
)
HOLDS_ANY = {"error", "traceback", "progress"}
"""Fields in which tasks leave what they like."""
NAMED_BY_OTHERS = {"ended", "batches", "declared", "generations"}
"""Hashes whose fields are named by jobs or digests."""
VITAL = {"due", "clock", "leases"}
"""Keys without which no job is found; to delete one is to delete jobs."""
COMMANDS = (
    ("jobs", "list"), ("jobs", "show", "planted"), ("jobs", "show", "a@b@5"), ("jobs", "dead"), ("workers",),
    ("events",), ("next",), ("jobs", "show", "honest-1"), ("jobs", "show", "planted@1"),
)  # fmt: skip


def is_garbage(kind: str, field: str, value: bytes) -> bool:
    """Whether redsched never writes this value into such a field, by what is said above, not by its own list."""
    if kind in NAMED_BY_OTHERS or field in HOLDS_ANY:
        return value in GARBAGE and kind in NAMED_BY_OTHERS
    return value in GARBAGE or (value in NOT_NUMBERS and bool(IS_NUMBER.fullmatch(field)))


class Running:
    """A clock that stands still while this process is stopped or gets no time."""

    TICK_S = 0.05

    def __init__(self) -> None:
        self.seconds = 0.0
        self.lost = 0.0
        """How long it stood still."""
        self._ended = threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self._ended.clear()

    def _tick(self) -> None:
        while not self._ended.is_set():
            before = time.monotonic()
            time.sleep(self.TICK_S)
            took = time.monotonic() - before
            self.seconds += min(took, 2 * self.TICK_S)
            self.lost += max(0.0, took - 2 * self.TICK_S)


RUNNING = Running()


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    with RUNNING:
        yield


class Attack(RuleBasedStateMachine):
    """One service, one honest client, one writer who may write what it likes."""

    url = ""
    port = 0
    key = ""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = fresh_prefix()
        self.tag = f"{{{self.prefix}:0}}:"
        self.runner = asyncio.Runner()
        security = PayloadSecurity([self.key]) if self.key else None
        self.client = BackgroundTaskScheduler(self.url, self.prefix, declared_tasks=False, payload_security=security)
        self.redis = redis.Redis("127.0.0.1", self.port)
        self.victim = subprocess.Popen(
            [sys.executable, "-m", "tests.security.victim", self.url, self.prefix, self.key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.victim.stdout is not None
        self.worker = json.loads(self.victim.stdout.readline())["id"]
        self.jobs = 0
        self.ids = [*IDS, "honest-0"]
        self.planted: list[tuple[bytes, Callable[[], bool], str]] = []
        """Of the writes of this step that doctor must name: the key, whether it is still so, and what is told."""
        self.early: str | None = None
        self.has_travelled = False
        """Somebody stored a true offset: then time is another, and what was far away may be due."""
        self.load = float("inf")

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for pipe in (self.victim.stdin, self.victim.stdout, self.victim.stderr):
            if pipe is not None:
                pipe.close()
        self.do(self.client.shutdown())
        self.runner.close()
        self.redis.close()

    @initialize()
    def the_service_works(self) -> None:
        before, at = self.commands(), time.monotonic()
        for number in range(LOAD_JOBS):
            self.do(self._schedule(f"load-{number}"))
        self.until(lambda: all(self.report()["ran"].get(f"load-{number}") for number in range(LOAD_JOBS)))
        self.load = (self.commands() - before) / (time.monotonic() - at)
        self.do(self._schedule("late", 86_400))
        self.come_early()
        self.holds("nothing")

    # -- what holds ---------------------------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        stdin, stdout = self.victim.stdin, self.victim.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write("?\n")
            stdin.flush()
            line = stdout.readline()
        except OSError:
            line = ""
        if not line:
            self.victim.wait(10)
            assert self.victim.stderr is not None
            raise AssertionError(
                f"the service ended with {self.victim.returncode}: {self.victim.stderr.read()[-3000:]}"
            )
        return json.loads(line)

    def until(self, check: Callable[[], bool]) -> bool:
        deadline = RUNNING.seconds + RUNS_WITHIN_S
        while not (answer := check()) and RUNNING.seconds < deadline:
            time.sleep(0.02)
        return answer

    def holds(self, written: str, kind: str = "") -> None:
        """What must be true after each write."""
        before, lost = self.report(), RUNNING.lost
        self.jobs += 1
        name = f"honest-{self.jobs}"
        self.do(self._schedule(name))
        try:
            ended = self.do(self.client.wait_for_result(name, timeout=RUNS_WITHIN_S))
        except Exception as error:
            raise AssertionError(f"after {written}: who waits for a result gets {error!r}") from error
        assert (ended.outcome, ended.result) == (Outcome.DONE, name), f"after {written}: {ended}"
        told = self.report()
        most = 1 if RUNNING.lost - lost < 1 else 2  # a service that was stopped meanwhile may have lost a lease
        assert 1 <= told["ran"].get(name, 0) <= most, f"after {written}: it ran {told['ran'].get(name, 0)} times"
        self.came_early(written, kind, most)
        assert told["running"], f"after {written}: the scheduler does not run"
        assert told["serving"], f"after {written}: its worker ended"
        assert not told["ended"], f"after {written}: {told['ended']} ended"
        assert not told["crimes"], f"after {written}: {told['crimes']} ran"
        assert not told["twice"], f"after {written}: several runs have the tokens {told['twice']}"
        assert self.has_travelled or "late" not in told["ran"], f"after {written}: tomorrow's job ran"
        for what in ("heard", "collected")[: 1 + (self.jobs % 4 == 0)]:  # metrics are collected once a second
            more = self.until(lambda what=what: self._goes_on(what, before))
            assert more, f"after {written}: no more is {what}"
        self.is_quiet(written)
        self.command_line(written)
        told = self.report()
        for longest in (before["longest"], told["longest"]):
            assert longest < STILL_S, f"after {written}: the loop stood still for {longest:.2f} s"

    def _goes_on(self, what: str, before: dict[str, Any]) -> bool:
        told = self.report()
        assert told["longest"] < STILL_S, f"the loop stood still for {told['longest']:.2f} s"
        if what == "heard":
            return told["heard"].get("done", 0) > before["heard"].get("done", 0)
        return told["collected"] > before["collected"]

    def come_early(self) -> None:
        """An honest job that is stored before the write, and due after it."""
        self.early = f"early-{self.jobs}"
        self.do(self._schedule(self.early, DELAY_S))

    def came_early(self, written: str, kind: str, most: int) -> None:
        early, self.early = self.early, None
        if early is None:
            return
        is_due = self.until(lambda: self.report()["ran"].get(early, 0) > 0) if kind not in VITAL else False
        count = self.report()["ran"].get(early, 0)
        assert count <= most, f"after {written}: an earlier job ran {count} times"
        assert is_due or kind in VITAL, f"after {written}: an earlier job, whose keys were left alone, did not run"

    async def _schedule(self, name: str, delay: float | None = None) -> None:
        deadline = RUNNING.seconds + RUNS_WITHIN_S
        while True:
            try:
                return await self._once(name, delay)
            except StoreError:  # a key that a script needs is of another type, until the worker has seen that
                if RUNNING.seconds > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _once(self, name: str, delay: float | None) -> None:
        self.client.registry.packages = ()
        with contextlib.suppress(Exception):
            self.client.register(victim.honest, name="honest")
        more: dict[str, Any] = {"args": [name], "job_id": name, "replace_existing": "keep"}
        if delay is None:
            await self.client.schedule_immediate_task(name, victim.honest, **more)
        else:
            await self.client.schedule_delayed_task(name, victim.honest, delay_minutes=delay / 60, **more)

    def commands(self) -> int:
        # Those that no script gives: what a script does inside is part of its call.
        stats = self.redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in SENT)

    def is_quiet(self, written: str) -> None:
        deadline = RUNNING.seconds + RUNS_WITHIN_S
        while True:  # what was under way may take a moment to end
            before, at = self.commands(), time.monotonic()
            time.sleep(0.25)
            rate = (self.commands() - before) / (time.monotonic() - at)
            if rate < RATE or RUNNING.seconds > deadline:
                break
        assert rate < min(RATE, max(self.load, RATE / 3)), (
            f"after {written}: an idle service sends {rate:.0f} commands a second, under load {self.load:.0f}"
        )

    # -- what is seen of it -------------------------------------------------------------------------------------------

    def command_line(self, written: str) -> None:
        """Two commands, in turn, and doctor: how they end, what they print, and that doctor names what was written."""
        for at in (2 * self.jobs, 2 * self.jobs + 1):
            number, is_json = divmod(at % (2 * len(COMMANDS)), 2)
            code, _ = self.run(written, *COMMANDS[number], *(["--json"] if is_json else []))
            assert code in (ExitCode.OK, ExitCode.NOTHING), f"after {written}: {COMMANDS[number]} exits with {code}"
        is_there = [key for key, is_so, _ in self.planted if is_so()]
        code, out = self.run(written, "doctor", *(["--json"] if self.jobs % 3 else []))
        assert code in (ExitCode.OK, ExitCode.UNHEALTHY), f"after {written}: doctor exits with {code}"
        found = self.do(self._traces())
        for key, is_so, why in self.planted:
            if key in is_there and is_so():
                name = key[len(self.tag) :].decode(errors="backslashreplace")
                told = [trace for trace in found if trace.startswith((f"{name}:", f"quarantine:{name}:"))]
                assert told, f"after {written}: doctor does not name {name}: {why}; it names {found}"
                assert code == ExitCode.UNHEALTHY
                if self.jobs % 3:
                    [writers] = [one for one in json.loads(out) if one["check"] == "writers"]
                    assert writers["level"] == "error"
                    assert "another program writes here" in writers["message"]
        self.planted.clear()

    def every_command(self, written: str) -> None:
        """The same of all commands, in both forms."""
        for command in COMMANDS:
            for form in ((), ("--json",)):
                code, _ = self.run(written, *command, *form)
                assert code in (ExitCode.OK, ExitCode.NOTHING), f"after {written}: {command} exits with {code}"

    async def _traces(self) -> list[str]:
        return await traces(await self.client.store())

    def run(self, written: str, *arguments: str) -> tuple[int, str]:
        used = time.process_time()
        result = CliRunner().invoke(
            build(), list(arguments), env={"REDSCHED_URL": self.url, "REDSCHED_PREFIX": self.prefix, "COLUMNS": "200"}
        )
        used = time.process_time() - used
        command = f"after {written}: `redsched {' '.join(arguments)}`".encode(errors="replace").decode()
        assert result.exception is None or isinstance(result.exception, SystemExit), f"{command}: {result.exception!r}"
        assert used < COMMAND_S, f"{command} took {used:.1f} s"
        shown = result.stdout + result.stderr
        assert all(line.isprintable() for line in shown.split("\n")), f"{command} prints control characters: {shown!r}"
        assert "Traceback" not in shown, f"{command}: {shown}"
        if "--json" in arguments and result.exit_code in (ExitCode.OK, ExitCode.UNHEALTHY):
            documents = result.stdout.splitlines() if "events" in arguments else [result.stdout]
            for document in documents:
                json.loads(document, parse_constant=pytest.fail)
        return result.exit_code, result.stdout

    # -- what is written ----------------------------------------------------------------------------------------------

    def key_of(self, kind: str, name: Any) -> bytes:
        """The key of that kind: `kind` as in the table of keys."""
        head, colon, _ = kind.partition(":")
        tail = name if isinstance(name, bytes) else str(name).encode()
        return (self.tag + head + colon).encode() + (tail if colon else b"")

    def write(self, *command: Any, before: bool = True) -> None:
        """One command of the writer; Redis may refuse it."""
        kind = bytes(command[1] if isinstance(command[1], bytes) else command[1].encode())[len(self.tag) :]
        if before:
            self.come_early()
        with contextlib.suppress(redis.ResponseError):
            self.redis.execute_command(*command)
        self.note(*command)
        shown = " ".join(repr(part)[:80] for part in command)
        self.holds(shown, kind.partition(b":")[0].decode())

    def plant(self, what: str, commands: list[tuple[Any, ...]]) -> None:
        """Some commands at once, on keys that are named after the tag."""
        self.come_early()
        for command, name, *rest in commands:
            key = name if isinstance(name, bytes) else name.replace("{worker}", self.worker).encode()
            parts = [part.replace("{worker}", self.worker) if isinstance(part, str) else part for part in rest]
            with contextlib.suppress(redis.ResponseError):
                self.redis.execute_command(command, self.tag.encode() + key, *parts)
        self.holds(what)
        if what.startswith("9"):
            self.every_command(what)

    def note(self, *command: Any) -> None:
        """Remember what of a write doctor must name, as long as it is there."""
        verb, key, *rest = command
        key = key if isinstance(key, bytes) else key.encode()
        kind = key[len(self.tag) :].partition(b":")[0].decode()
        want = KINDS[kind].type.lower() if kind in KINDS else "any"
        self.has_travelled |= kind == "clock" and verb == "HSET" and rest[-2] == "offset_ms"

        def stored() -> str:
            return self.redis.type(key).decode()

        if want not in ("any", stored(), "none") and stored() != "none":
            self.planted.append((key, lambda: stored() not in (want, "none"), f"a {stored()}"))
        elif verb == "HSET" and want == "hash":
            field, value = rest[-2], rest[-1]
            if is_garbage(kind, field, value):
                self.planted.append((key, lambda: self.redis.hget(key, field) == value, f"{field} = {value[:40]!r}"))
        elif verb == "ZADD" and want == "zset":
            score, member = rest
            if score in NO_SCORES or member in NO_IDS:
                same = float(score)
                self.planted.append(
                    (key, lambda: self.redis.zscore(key, member) == same, f"{member!r} at {score}")
                )  # fmt: skip
        elif verb == "SADD" and want == "set" and rest[0] in (*GARBAGE, *NO_IDS):
            self.planted.append((key, lambda: bool(self.redis.sismember(key, rest[0])), f"{rest[0][:40]!r}"))
        elif verb == "XADD" and rest[-1] in GARBAGE and rest[-2] in (b"settled", b"moved", b"scheduled", b"claimed"):
            self.planted.append((key, lambda: stored() == "stream", "an entry"))

    def name_for(self, kind: str, number: int) -> Any:
        names = {
            "due": ["default", "other", f"local:{self.worker}", "nowhere"],
            "idle": ["default", "other"],
            "wake": ["default", "other"],
            "worker": [self.worker, "w"],
            "mail": [self.worker, "w"],
            "requests": ["c", self.worker],
            "answers": ["c", self.client.id],
            "circuit": ["c"],
            "tag": ["t"],
            "ended": ["1", "2", "x"],
            "batches": ["1", "2", "x"],
            "index": ["1:1", "1:8", "x"],
            "parked": ["task:nowhere default", "x", b"\xff"],
            "declared": ["app", b"\xff"],
            "declarers": ["app", b"\xff"],
            "generations": ["app", b"\xff"],
        }.get(kind.partition(":")[0], self.ids)
        return names[number % len(names)]

    kinds = st.sampled_from([name for name, _, _ in KEY_TABLE])
    numbers = st.integers(0, 7)

    @rule(kind=st.sampled_from([name for name, type_, _ in KEY_TABLE if type_ in ("HASH", "ANY")]), number=numbers,
          field=FIELDS, value=VALUES)  # fmt: skip
    def a_field(self, kind: str, number: int, field: str, value: bytes) -> None:
        self.write("HSET", self.key_of(kind, self.name_for(kind, number)), field, value)

    @rule(data=st.data(), number=numbers, value=VALUES)
    def a_field_of_its_own(self, data: st.DataObject, number: int, value: bytes) -> None:
        kind = data.draw(st.sampled_from([name for name in KEY_TABLE if KNOWN_FIELDS.get(name[0].partition(":")[0])]))[
            0
        ]
        field = data.draw(st.sampled_from(sorted(KNOWN_FIELDS[kind.partition(":")[0]])))
        self.write("HSET", self.key_of(kind, self.name_for(kind, number)), field, value)

    @rule(kind=st.sampled_from([name for name, type_, _ in KEY_TABLE if type_ in ("ZSET", "ANY")]), number=numbers,
          score=SCORES, member=MEMBERS)  # fmt: skip
    def a_member(self, kind: str, number: int, score: str, member: Any) -> None:
        self.write("ZADD", self.key_of(kind, self.name_for(kind, number)), score, member)

    @rule(kind=kinds, number=numbers, value=VALUES, type_=st.sampled_from(sorted(TYPES)))
    def any_type(self, kind: str, number: int, value: bytes, type_: str) -> None:
        key = self.key_of(kind, self.name_for(kind, number))
        self.come_early()
        if type_ != "STRING" and self.redis.exists(key) and number % 2:
            self.redis.delete(key)
        command, *rest = TYPES[type_](value)
        self.write(command, key, *rest, before=False)

    @rule(
        field=st.sampled_from([b"at", b"by", b"settled", b"moved", b"scheduled", b"claimed", b"refused", b"\xff"]),
        value=VALUES,
    )
    def an_event(self, field: bytes, value: bytes) -> None:
        self.write("XADD", self.tag + "events", "*", "at", b"1", "by", b"w", field, value)

    @rule(
        job=st.sampled_from(IDS),
        record=RECORDS | BOMBS,
        score=SCORES,
        periodic=st.booleans(),
        field=FIELDS,
        value=NUMBERS,
    )
    def a_job(self, job: Any, record: bytes, score: str, periodic: bool, field: str, value: bytes) -> None:
        more = ["periodic", 1, "next_ms", value] if periodic else []
        key = self.key_of("job:", job)
        with contextlib.suppress(redis.ResponseError):
            self.redis.hset(key, items=["record", record, *more, field, value])
            self.note("HSET", key, "record", record)
            self.note("HSET", key, field, value)
        self.write("ZADD", self.tag + "due:default", score, job)

    @rule(job=st.sampled_from(IDS), owner=st.booleans(), fence=NUMBERS, score=SCORES)
    def a_lease(self, job: Any, owner: bool, fence: bytes, score: str) -> None:
        who = self.worker if owner else "w"
        key = self.key_of("job:", job)
        with contextlib.suppress(redis.ResponseError):
            self.redis.hset(key, items=["record", b"r", "fence", fence, "owner", who])
            self.note("HSET", key, "fence", fence)
        self.write("ZADD", self.tag + "leases", score, job)

    @rule(
        text=st.sampled_from(
            [b"cancel planted", b"cancel \xff", b"", b"\x00" * 100_000, b"travel", b"parked x", b"nonsense"]
        )
    )
    def mail(self, text: bytes) -> None:
        self.write("RPUSH", f"{self.tag}mail:{self.worker}", text)


@pytest.mark.parametrize("key", ["", KEY], ids=["no payload keys", "payload keys"])
def test_whoever_writes_to_redis_stops_nobody_and_runs_nothing(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SECOND_LOOK_S", 0.05)
    with LocalServer() as server:
        attack = type("Attack", (Attack,), {"url": server.url, "port": server.port, "key": key})
        run_state_machine_as_test(
            attack,
            settings=settings(
                max_examples=max(1, STEPS // EXAMPLE_STEPS // 2), stateful_step_count=EXAMPLE_STEPS, deadline=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
            ),
        )  # fmt: skip


# -- the holes of the first attack, always tried ----------------------------------------------------------------------

FLOOD = flood(20_000)
RECORD_FLOOD = msgpack.packb([1, "honest", None, b"\x92\x91" + FLOOD + b"\x80", None])
ODD_ROW = msgpack.packb([[[], 1, [], {}, [], {}, [], {}, [], {}, []]])
MILLION = b"\x92\xdd\x00\x0f\x42\x40" + b"\x80" * 1_000_001
"""Arguments: a list of that many empty maps."""
STOLEN = ["record", b"r", "owner", "{worker}", "attempt", "1", "fire_ms", "1"]


def _periodic(task: str) -> list[tuple[Any, ...]]:
    record = Record(task, "planted", pack_payload([], {}), {"schedule": ["interval", 1000, 0]}).pack()
    fields = ["record", record, "periodic", 1, "next_ms", "1"]
    return [("HSET", "job:planted", *fields), ("ZADD", "due:default", 1, "planted")]


def _due(task: str) -> list[tuple[Any, ...]]:
    return [("HSET", "job:planted", "record", _record(task, {})), ("ZADD", "due:default", 1, "planted")]


HOLES: dict[str, list[tuple[Any, ...]]] = {
    "1: a token that is infinite": [("HSET", "clock", "fence", "inf")],
    "1: an id that is no text, lost": [
        ("HSET", b"job:\xff\xfe", *STOLEN, "fence", "7"), ("ZADD", "leases", 1, b"\xff\xfe"),
        ("ZADD", "due:default", 1, b"\xff\xfe"),
    ],
    "1: an id that is no text, to be stopped": [("RPUSH", "mail:{worker}", b"cancel \xff\xfe")],
    "1: a periodic job whose task's name is deep": _periodic("tests." + "a." * 5000 + "b"),
    "1: a periodic job whose task's name is deep, in a module": _periodic("tests.security.named." + "a." * 5000 + "b"),
    "1: a periodic job whose task's module ends the process": _periodic("tests.security.unnamed.x"),
    "1: a periodic job whose task's module is none of the application's": _periodic("antigravity.fly"),
    "3: a function that is no task, in a module that is named": _due("tests.security.named.unregistered"),
    "3: a function with an underscore, in a module that is named": _due("tests.security.named._private"),
    "3: what a module makes of a name": _due("tests.security.named.anything"),
    "3: another method of a class": _due("tests.security.victim.Service.other"),
    "3: a method with an underscore": _due("tests.security.victim.Service._hidden"),
    "2: a record": [("HSET", "job:planted", "record", RECORD_FLOOD), ("ZADD", "due:default", 1, "planted")],
    "2: what a worker says of itself": [("HSET", "worker:w", "info", FLOOD), ("ZADD", "workers", 4102444800000, "w")],
    "2: a result": [("SET", "result:planted", FLOOD)],
    "2: an event": [("XADD", "events", "*", "at", 1, "by", "w", "moved", FLOOD)],
    "2: a million empty maps": [
        ("HSET", "job:planted", "record", msgpack.packb([1, "honest", None, MILLION, None])),
        ("ZADD", "due:default", 1, "planted"),
    ],
    "6: a worker's sequence": [("HSET", "worker:{worker}", "sequence", 2**53)],
    "6: a worker's sequence, infinite": [("HSET", "worker:{worker}", "sequence", "inf")],
    "6: a worker's last poll": [("HSET", "worker:{worker}", "last", b"\xc1")],
    "6: a circuit that is open for ever": [
        ("HSET", "circuit:c", "open_until", "inf"),
        ("HSET", "job:planted", "record", _record("honest", {"circuit_breaker": ["c", 1, 1000, 1]})),
        ("ZADD", "due:default", 1, "planted"),
    ],
    "7: a clock that is far ahead": [("HSET", "clock", "now_us", "4102444800000000")],
    "7: a clock that is infinite": [("HSET", "clock", "now_us", "inf")],
    "7: a token beyond which none can be counted": [("HSET", "clock", "fence", 2**53)],
    "9: an event with a number that is a text": [
        ("XADD", "events", "*", "at", 1, "by", "w", "moved", msgpack.packb([["dead", "a", None, "x", 1, 1, 1, None]])),
        ("XADD", "events", "*", "at", 1, "by", "w", "stalled", msgpack.packb(["a", "b", "x", None])),
    ],
    "9: an event with the last id that there is": [
        ("XADD", "events", "18446744073709551615-18446744073709551615", "at", 1, "by", "w"),
    ],
    "9: an event of types that have no order": [
        ("XADD", "events", "*", "at", 1, "by", "w", "settled", ODD_ROW),
        ("XADD", "events", "*", "at", 1, "by", "w", "claimed", msgpack.packb([1, None, {}])),
    ],
    "9: an entry that is no event": [("XADD", "events", "*", "a", "b")],
    "9: an event of other types": [("XADD", "events", "*", "at", "x", "by", "w", "moved", b"\x91\x98" + b"\xc0" * 8)],
    "9: a worker's heartbeat": [("ZADD", "workers", "+inf", "w")],
    "9: a place that is no text": [("ZADD", "parking", 1, b"\xff\xfe"), ("ZADD", b"parked:\xff\xfe", 1, "planted")],
    "9: a job parked at a place that is no text": [("HSET", "job:planted", "record", b"r", "parked", b"\xff\xfe")],
    "9: a job's instant": [
        ("ZADD", "due:default", "+inf", "planted"), ("HSET", "job:planted", "record", _record("honest", {})),
    ],
}  # fmt: skip
"""By their items: a clock that is infinite, a map of colliding hashes, a number that spins, a junk entry."""


@pytest.mark.parametrize("key", ["", KEY], ids=["no payload keys", "payload keys"])
def test_each_hole_that_an_attack_once_found_is_closed(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SECOND_LOOK_S", 0.05)
    open_holes: dict[str, str] = {}
    holes = list(HOLES.items())
    while holes:  # one service for all; after a finding another, on another server
        with LocalServer() as server, contextlib.ExitStack() as stack:
            attack: Attack = type("Attack", (Attack,), {"url": server.url, "port": server.port, "key": key})()
            stack.callback(attack.teardown)
            attack.the_service_works()
            try:
                while holes:
                    hole, commands = holes.pop(0)
                    attack.plant(hole, commands)
            except Exception as error:
                open_holes[hole] = repr(error)[:500]
    assert not open_holes, "\n".join(f"{hole}: {why}" for hole, why in open_holes.items())


# -- what may be written is all that there is ----------------------------------------------------------------------


def test_every_key_of_the_architecture_is_attacked() -> None:
    page = (Path(ROOT) / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| ([A-Z]+) \|", page.split("<!-- generated: keys -->")[1], re.MULTILINE)
    assert rows == [(name, type_) for name, type_, _ in KEY_TABLE], "python docs/generate.py writes the table"
    assert {type_ for _, type_ in rows} - {"ANY"} == set(TYPES), "there is a command for each type"


def test_every_field_that_a_script_writes_is_known() -> None:
    known = {name for fields in KNOWN_FIELDS.values() for name in fields}
    written: set[str] = set()
    for script in Path(str(lua_folder())).rglob("*.lua"):
        for names in re.findall(r"call\('H(?:SET|SETNX|INCRBY)', [^,]+, ([^\n]*)", script.read_text()):
            parts = re.split(r",\s*", names)
            written |= {part[1:-1] for part in parts[::2] if re.fullmatch(r"'[a-z_]+'", part)}
        if script.stem == "schedule":
            written |= set(re.findall(r"fields\[[^\]]+\] = '([a-z_]+)' *(?:--.*)?$", script.read_text(), re.MULTILINE))
    assert len(written) > 40, "the scripts are not read as they are written"
    assert written - {"default", "paused"} <= known, "redsched/doctor/stored_fields.py lacks what a script writes"
