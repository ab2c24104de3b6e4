"""`redsched doctor`: what is wrong with a server, what to change, and an exit code for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from redsched import BackgroundTaskScheduler, schedule_task
from redsched.cli.root import build
from redsched.store.keys import KEY_TABLE, KINDS
from redsched.testing import Kit
from tests.invariants import SINGLE, WITH_TTL
from tests.servers import LocalServer, ValkeyServer

from .harness import Shell


async def note() -> None: ...


def asked(url: str, *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = CliRunner().invoke(build(), ["--url", url, "--prefix", "doctor", "doctor", "--json", *more])
    assert done.stdout.startswith("["), done.output
    return done.exit_code, {each["check"]: each for each in json.loads(done.stdout)}


@pytest.fixture
def good() -> Iterator[LocalServer]:
    with ValkeyServer(aof="always") as server:
        yield server


def test_a_server_that_is_set_up_well_has_no_error(good: LocalServer) -> None:
    code, found = asked(good.url)
    assert code == 0
    assert set(found) == {
        "version", "eviction", "memory", "persistence", "replicas", "clock", "latency", "acl", "cluster", "keys",
        "workers", "declarations", "writers",
    }  # fmt: skip
    assert {each["check"] for each in found.values() if each["level"] != "ok"} <= {"acl", "latency"}
    assert "Valkey" in found["version"]["message"]
    assert "nothing acknowledged is lost" in found["persistence"]["message"]
    assert found["acl"]["message"] == "everybody is the user default"


@pytest.mark.parametrize(
    ("args", "check", "level", "says", "advice"),
    [
        (
            ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"),
            "eviction",
            "error",
            "may delete",
            "noeviction",
        ),
        (("--maxmemory-policy", "allkeys-lru"), "eviction", "warning", "if maxmemory were set", "noeviction"),
        ((), "persistence", "error", "a restart loses every job", "appendonly yes"),
        (("--save", "3600 1"), "persistence", "warning", "snapshots only (3600 1)", "appendonly yes"),
        (("--appendonly", "yes", "--appendfsync", "no"), "persistence", "warning", "appendfsync no", "everysec"),
        (("--replicaof", "127.0.0.1 1"), "replicas", "error", "this is a replica", "name the primary"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_change(
    args: tuple[str, ...], check: str, level: str, says: str, advice: str
) -> None:
    with LocalServer(*args) as server:
        code, found = asked(server.url)
    assert found[check]["level"] == level
    assert says in found[check]["message"]
    assert advice in found[check]["advice"]
    assert code == (5 if any(each["level"] == "error" for each in found.values()) else 0)


def test_memory_that_is_nearly_used_up_is_an_error() -> None:
    with LocalServer() as server:
        client = server.client()
        used = int(client.info("memory")["used_memory"])  # of an empty server: each release needs another amount
        client.config_set("maxmemory", used)
        _, found = asked(server.url)
    assert found["memory"]["level"] == "error"
    assert "raise maxmemory" in found["memory"]["advice"]


def test_a_clock_that_stepped_back_and_time_travel_are_told(good: LocalServer) -> None:
    with good.client() as admin:
        seconds, _ = admin.time()
        admin.hset("{doctor:0}:clock", "now_us", (int(seconds) + 100) * 1_000_000)
        code, found = asked(good.url)
        assert (code, found["clock"]["level"]) == (5, "error")
        assert "stepped back by 9" in found["clock"]["message"] or "by 100" in found["clock"]["message"]
        admin.hset("{doctor:0}:clock", "offset_ms", 5000)
        assert "testing kit" in asked(good.url)[1]["clock"]["message"]


@pytest.mark.parametrize("layout", [b"2", b"\x80\x80", b"junk"])
def test_a_layout_that_stops_each_start_is_an_error_with_its_key(good: LocalServer, layout: bytes) -> None:
    with redis.Redis.from_url(good.url) as client:
        client.hset("{doctor:0}:clock", mapping={b"layout": layout})
        try:
            code, found = asked(good.url)
        finally:
            client.delete("{doctor:0}:clock")
    assert code == 5
    assert found["layout"]["level"] == "error"
    assert "field layout of {doctor:0}:clock" in found["layout"]["advice"]
    assert "writers" in found


LEFT = [
    (lambda c: c.set("{doctor:0}:strange:x", 1), "strange:x: of a kind that redsched does not know"),
    (lambda c: c.set("{doctor:0}:job:x", 1), "job:x: a string, where redsched keeps a hash"),
    (lambda c: c.hset("{doctor:0}:job:x", "record", "r"), "job:x: nothing will ever run or end it"),
    (lambda c: c.hset("{doctor:0}:job:x", "queue", "r"), "job:x: without a record"),
    (lambda c: c.hset("{doctor:0}:run:x@5", "job", "x"), "run:x@5: it neither runs nor waits"),
    (lambda c: c.set("{doctor:0}:result:x", "x"), "result:x: it should have a TTL and has none"),
]


@pytest.mark.parametrize(("leave", "says"), LEFT, ids=[says.partition(":")[0] for _, says in LEFT])
def test_keys_that_nothing_will_ever_free_are_named(
    leave: Callable[[redis.Redis], Any], says: str, redsched_url: str
) -> None:
    with redis.Redis.from_url(redsched_url) as admin:
        try:
            leave(admin)
            assert says in asked(redsched_url)[1]["keys"]["message"]
        finally:
            admin.delete(*admin.keys("{doctor:0}:*"))


def test_it_knows_the_same_kinds_of_keys_as_the_invariants() -> None:
    assert {kind for kind, known in KINDS.items() if known.expires} == WITH_TTL
    assert {kind for kind, known in KINDS.items() if not known.has_name} == SINGLE
    assert len(KINDS) == len(KEY_TABLE)


async def test_in_the_middle_of_work_nothing_is_left_over(redsched_kit: Kit) -> None:
    scheduler: BackgroundTaskScheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("a", note, seconds=60, job_id="a", tags=["t"])
    await scheduler.schedule_delayed_task("b", note, delay_minutes=5)
    await scheduler.run_now("a")
    await redsched_kit.advance(minutes=3)
    await scheduler.pause_job("a")
    found = {each.check: each for each in await scheduler.examine_server()}
    assert found["keys"].level == "ok", found["keys"]


async def test_jobs_that_nobody_serves_are_told(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_delayed_task("b", note, delay_minutes=5)
    done = await shell("doctor")
    assert "1 job is not served: there is no live worker" in done.stdout
    assert "redsched worker module:scheduler" in done.stdout


async def test_a_declared_job_that_could_not_be_stored_is_told_by_doctor_and_by_workers(
    redsched_kit: Kit, shell: Shell
) -> None:
    mine = redsched_kit.scheduler
    app = BackgroundTaskScheduler(mine.redis_url, mine.prefix, declared_tasks=False)
    schedule_task(scheduler=app, name="nightly", cron="0 3 * * *", executor="of another process")(note)
    await app.start()
    try:
        assert [job.status for job in app.declared_jobs] == ["failed"]
        found = {each["check"]: each for each in json.loads((await shell("doctor", "--json")).stdout)}
        assert found["declarations"]["level"] == "error"
        assert "nightly" in found["declarations"]["message"]
        assert "of another process" in found["declarations"]["message"]
        assert "not stored as declared: job nightly" in (await shell("workers")).stdout
        [worker] = (await shell.json("workers"))["workers"]
        assert list(worker["failed_declarations"]) == ["nightly"]
    finally:
        await app.shutdown()
    found = {each["check"]: each for each in json.loads((await shell("doctor", "--json")).stdout)}
    assert found["declarations"]["level"] == "ok"


def test_a_user_without_the_rights_is_told_which(good: LocalServer) -> None:
    with good.client() as admin:
        rights = ["+@all", "-xadd", "-blpop", "~{doctor:*}:*"]
        admin.execute_command("ACL", "SETUSER", "half", "on", ">half-secret", *rights)
        url = f"redis://half:half-secret@127.0.0.1:{good.port}"
        code, found = asked(url)
        assert (code, found["acl"]["level"]) == (5, "error")
        assert "BLPOP" in found["acl"]["message"]
        assert "docs/security.md" in found["acl"]["advice"]
        assert "half-secret" not in json.dumps(found)
        admin.execute_command("ACL", "SETUSER", "half", "-acl|dryrun", "-info")
        found = asked(url)[1]
        assert "it may not ask" in found["acl"]["message"]
        assert "may not ask INFO" in found["version"]["message"]


def test_a_server_that_is_not_there_is_no_patient() -> None:
    done = CliRunner().invoke(build(), ["--url", "redis://127.0.0.1:1", "doctor"])
    assert done.exit_code == 3
