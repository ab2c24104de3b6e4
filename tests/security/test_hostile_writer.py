"""Somebody writes any value of any type into any key, field, score and member, while honest work goes on beside it.

After each step: no process of the service ended and its loop did not stand still, nothing ran that was not registered,
an honest job that comes now runs once, an idle worker sends no more commands than one at work, and doctor names what
was written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from redsched import BackgroundTaskScheduler, PayloadSecurity, StoreError
from redsched.codec import Record, pack_payload
from redsched.store.keys import KEY_TABLE
from redsched.testing import fresh_prefix
from tests.servers import ROOT, LocalServer

STEPS = int(os.environ.get("HOSTILE_STEPS", "120"))
"""How many hostile writes are made; CONTRIBUTING.md tells of the long form."""
EXAMPLE_STEPS = 15
KEY = "k" * 32
STILL_S = 0.2
"""How long the loop may stand still."""
SENT = ("evalsha", "eval", "blpop", "xread", "xrevrange", "scan")
RATE = 60
"""Commands that a worker, a reader of events and the metrics may send in a second when there is nothing to do."""
RUNS_WITHIN_S = 8.0

# -- what a hostile writer writes -----------------------------------------------------------------------------------

NUMBERS = st.sampled_from(
    [b"0", b"-1", b"1", b"inf", b"-inf", b"nan", b"1e308", b"9007199254740992", b"9007199254740993", b"1e400",
     b"-9223372036854775808", b"0x10", b"1.5", b" 1", b"", b"99999999999999999999", b"1753000000000", b"4102444800000"]
)  # fmt: skip
SCORES = st.sampled_from(["0", "-1", "1", "inf", "-inf", "1e308", "9007199254740993", "1.5", "4102444800000"])
TASKS = st.sampled_from(
    ["honest", "beat", "nowhere", "os.system", "tests.security.victim.unregistered", "tests.security.victim._private",
     "tests.security.victim.Service.other", "tests.security.victim.Service._hidden",
     "tests.security.victim.Service.__init__", "tests.security.victim.Service.public", "", "a" * 2000, "x\x1b[2J",
     "tests." + "a." * 500, "__main__.unregistered", "tests.security.victim.crimes.append"]
)  # fmt: skip
BOMBS = st.sampled_from(
    [b"", b"\xc1", b"\x80" * 100_000, b"\xdd\x00\x01\x00\x00" + b"\x80" * 65_536, b"\xdd\xff\xff\xff\xff",
     b"\x91" * 100_000, b"\xdf\x00\x00\x10\x00" + b"".join(
         b"\xd8\x05" + (7 + n * (2**61 - 1)).to_bytes(16, "big") + b"\xc0" for n in range(4096)),
     os.urandom(64), b"\xff\xfe", b"\xc4" * 2_000_000]
)  # fmt: skip
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
    [
        "record",
        "version",
        "state",
        "fence",
        "owner",
        "attempt",
        "recoveries",
        "fire_ms",
        "fires",
        "next_ms",
        "after_ms",
        "periodic",
        "queue",
        "tags",
        "declared",
        "plan_fence",
        "claim_fence",
        "committed",
        "committed_outcome",
        "max_instances",
        "max_recoveries",
        "delivery",
        "runs_left",
        "cancel",
        "leave",
        "begun",
        "has_runs",
        "beside",
        "blocked",
        "blocked_ms",
        "paused_ms",
        "reason",
        "postponed",
        "error",
        "dead_ms",
        "progress",
        "job",
        "now_us",
        "offset_ms",
        "layout",
        "shards",
        "lock_prefix",
        "info",
        "sequence",
        "last",
        "claimed",
        "leader",
        "until_ms",
        "deputy",
        "deputy_ms",
        "confirmed",
        "failures",
        "open_until",
        "token",
    ]
)
IDS = ("planted", "planted@1", "planted@99999999999999999999", "@1", "a@b@5", b"\xff\xfe", "x" * 600, "lone")
MEMBERS = st.sampled_from([*IDS, "", b"\x00", "{", "w", "local:w"])


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

    def holds(self, written: str) -> None:
        """What must be true after each write."""
        self.jobs += 1
        name = f"honest-{self.jobs}"
        self.do(self._schedule(name))
        deadline = time.monotonic() + RUNS_WITHIN_S
        while not (told := self.report())["ran"].get(name) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert told["ran"].get(name) == 1, f"after {written}: an honest job ran {told['ran'].get(name, 0)} times"
        assert told["running"], f"after {written}: the scheduler does not run"
        assert told["serving"], f"after {written}: its worker ended"
        assert not told["ended"], f"after {written}: {told['ended']} ended"
        assert told["longest"] < STILL_S, f"after {written}: the loop stood still for {told['longest']:.2f} s"
        assert not told["crimes"], f"after {written}: {told['crimes']} ran"
        self.is_quiet(written)

    async def _schedule(self, name: str) -> None:
        deadline = time.monotonic() + RUNS_WITHIN_S
        while True:
            try:
                return await self._once(name)
            except StoreError:  # a key that a script needs is of another type, until the worker has seen that
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _once(self, name: str) -> None:
        from tests.security import victim

        self.client.registry.packages = ()
        with contextlib.suppress(Exception):
            self.client.register(victim.honest, name="honest")
        await self.client.schedule_immediate_task(
            name, victim.honest, args=[name], job_id=name, replace_existing="keep"
        )

    def is_quiet(self, written: str) -> None:
        def commands() -> int:
            # Those that no script gives: what a script does inside is part of its call.
            stats = self.redis.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in SENT)

        deadline = time.monotonic() + RUNS_WITHIN_S
        while True:  # what was under way may take a moment to end
            before, at = commands(), time.monotonic()
            time.sleep(0.25)
            rate = (commands() - before) / (time.monotonic() - at)
            if rate < RATE or time.monotonic() > deadline:
                break
        assert rate < RATE, f"after {written}: an idle service sends {rate:.0f} commands a second"

    # -- what is written ----------------------------------------------------------------------------------------------

    def key_of(self, kind: str, name: Any) -> bytes:
        """The key of that kind: `kind` as in the table of keys."""
        head, colon, _ = kind.partition(":")
        tail = name if isinstance(name, bytes) else str(name).encode()
        return (self.tag + head + colon).encode() + (tail if colon else b"")

    def write(self, *command: Any) -> None:
        """One command of the writer; Redis may refuse it."""
        with contextlib.suppress(redis.ResponseError):
            self.redis.execute_command(*command)
        shown = " ".join(repr(part)[:80] for part in command)
        self.holds(shown)

    def name_for(self, kind: str, number: int) -> Any:
        names = {
            "due": ["default", "other", f"local:{self.worker}", "nowhere"],
            "idle": ["default", "other"],
            "wake": ["default", "other"],
            "worker": [self.worker, "w"],
            "mail": [self.worker, "w"],
            "requests": ["c", self.worker],
            "circuit": ["c"],
            "tag": ["t"],
        }.get(kind.partition(":")[0], self.ids)
        return names[number % len(names)]

    kinds = st.sampled_from([name for name, _, _ in KEY_TABLE])
    numbers = st.integers(0, 7)

    @rule(kind=kinds, number=numbers, field=FIELDS, value=VALUES)
    def a_field(self, kind: str, number: int, field: str, value: bytes) -> None:
        self.write("HSET", self.key_of(kind, self.name_for(kind, number)), field, value)

    @rule(kind=kinds, number=numbers, score=SCORES, member=MEMBERS)
    def a_member(self, kind: str, number: int, score: str, member: Any) -> None:
        self.write("ZADD", self.key_of(kind, self.name_for(kind, number)), score, member)

    @rule(kind=kinds, number=numbers, value=VALUES, type_=st.sampled_from(["SET", "RPUSH", "SADD"]))
    def another_type(self, kind: str, number: int, value: bytes, type_: str) -> None:
        key = self.key_of(kind, self.name_for(kind, number))
        if type_ != "SET" and self.redis.exists(key) and number % 2:
            self.redis.delete(key)
        self.write(type_, key, value)

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
        with contextlib.suppress(redis.ResponseError):
            self.redis.hset(self.key_of("job:", job), items=["record", record, *more, field, value])
        self.write("ZADD", self.tag + "due:default", score, job)

    @rule(job=st.sampled_from(IDS), owner=st.booleans(), fence=NUMBERS, score=SCORES)
    def a_lease(self, job: Any, owner: bool, fence: bytes, score: str) -> None:
        who = self.worker if owner else "w"
        with contextlib.suppress(redis.ResponseError):
            self.redis.hset(self.key_of("job:", job), items=["record", b"r", "fence", fence, "owner", who])
        self.write("ZADD", self.tag + "leases", score, job)

    @rule(
        text=st.sampled_from(
            [b"cancel planted", b"cancel \xff", b"", b"\x00" * 100_000, b"travel", b"parked x", b"nonsense"]
        )
    )
    def mail(self, text: bytes) -> None:
        self.write("RPUSH", f"{self.tag}mail:{self.worker}", text)


@pytest.mark.parametrize("key", ["", KEY], ids=["no payload keys", "payload keys"])
def test_whoever_writes_to_redis_stops_nobody_and_runs_nothing(key: str) -> None:
    with LocalServer() as server:
        attack = type("Attack", (Attack,), {"url": server.url, "port": server.port, "key": key})
        run_state_machine_as_test(
            attack,
            settings=settings(
                max_examples=max(1, STEPS // EXAMPLE_STEPS // 2), stateful_step_count=EXAMPLE_STEPS, deadline=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
            ),
        )  # fmt: skip
