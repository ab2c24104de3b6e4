"""`redsched chaos --url`: on a server that others use, it keeps to its prefix, leaves nothing, and asks before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from redsched.chaos.cell import run_fault
from redsched.chaos.faults import ALL
from redsched.chaos.given import Given
from tests.servers import LocalServer

PASSWORD = "s3cret"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer("--requirepass", PASSWORD) as made:
        yield made


@pytest.fixture
def others(server: LocalServer) -> Iterator[redis.Redis]:
    """A connection of another user, whose key must stay the only one."""
    with redis.Redis(port=server.port, password=PASSWORD, db=2) as client:
        client.flushall()
        client.config_resetstat()
        client.set("theirs", "kept")
        yield client


def url_of(server: LocalServer) -> str:
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/2"


def chaos(*arguments: object, answer: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redsched.cli", "chaos", *map(str, arguments)],
        input=answer, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def commands_of(client: redis.Redis) -> set[str]:
    return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}


@pytest.mark.slow
def test_it_prints_the_account_and_leaves_the_server_as_it_was(
    server: LocalServer, others: redis.Redis, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    done = chaos(
        "--url", url_of(server), "--yes", "--fault", "worker-kill", "--fault", "reply-dropped", "--jobs", 150,
        "--seed", 3, "--json", found,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(found.read_text())
    assert report["kept"]
    assert [(each["fault"], each["verdict"], each["accepted"]) for each in report["faults"]] == [
        ("worker-kill", "kept", 150),
        ("reply-dropped", "kept", 150),
    ]
    assert PASSWORD not in done.stdout + done.stderr + found.read_text()
    assert others.keys() == [b"theirs"]
    assert others.info("keyspace").keys() == {"db2"}
    harmful = {"flushdb", "flushall", "config|set", "shutdown", "debug", "client|kill", "script|flush", "failover"}
    assert not harmful & commands_of(others)


def test_it_asks_first_and_without_a_yes_nothing_is_written(server: LocalServer, others: redis.Redis) -> None:
    for answer in ("n\n", ""):
        done = chaos("--url", url_of(server), "--fault", "none", "--jobs", 50, answer=answer)
        assert done.returncode == 2
        assert "nothing was done" in done.stderr
        assert "Every key is under the prefix redsched-chaos-" in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
    assert others.keys() == [b"theirs"]
    assert not {"evalsha", "eval", "set", "hset"} & (commands_of(others) - {"set"})


def test_a_fault_of_the_server_itself_is_refused(server: LocalServer) -> None:
    done = chaos("--url", url_of(server), "--yes", "--fault", "redis-kill-always")
    assert done.returncode == 2
    assert "breaks the server itself" in " ".join(done.stderr.replace("│", " ").split())
    both = chaos("--url", url_of(server), "--server", "embedded")
    assert both.returncode == 2


def test_what_may_be_made_elsewhere_starts_no_other_layout() -> None:
    """A fault with options of the server, or another server, is one of a server that the run starts."""
    for kind in ALL.values():
        layout = kind.layout
        ours = layout.kind != "server" or layout.spare or layout.server_args or layout.server_environment
        assert not (kind.elsewhere and ours), kind.name
    assert {"worker-kill", "worker-stop", "worker-clock-ahead", "latency"} <= {
        kind.name for kind in ALL.values() if kind.elsewhere
    }


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], 5, "eviction: allkeys-lru"),
        (["--replicaof", "127.0.0.1 1"], 5, "replicas: this is a replica"),
        (["--requirepass", "other"], 4, "refused"),
    ],
)
def test_a_server_on_which_the_promises_cannot_hold_is_refused_with_the_reason(
    options: list[str], code: int, reason: str
) -> None:
    with LocalServer(*options) as wrong:
        done = chaos("--url", wrong.url, "--yes", "--fault", "none", "--jobs", 50)
    assert done.returncode == code, done.stderr
    assert reason in done.stderr


async def test_where_no_proxy_can_stand_the_faults_of_the_network_are_skipped_with_the_reason() -> None:
    given = Given("redis+cluster://127.0.0.1:1")
    outcome = await run_fault(ALL["latency"], seed=1, jobs=50, rate=100, shortest_s=1.0, binary=given)
    assert outcome.skipped is not None
    assert "stands before one server" in outcome.skipped


async def test_the_keys_are_removed_when_a_run_is_broken_off(server: LocalServer, others: redis.Redis) -> None:
    async def stop(_: object) -> None:
        assert len(others.keys()) > 1
        raise RuntimeError("broken off")

    given = Given(url_of(server))
    with pytest.raises(RuntimeError, match="broken off"):
        await run_fault(ALL["none"], seed=1, jobs=50, rate=100, shortest_s=0.5, binary=given, look=stop)
    assert others.keys() == [b"theirs"]
