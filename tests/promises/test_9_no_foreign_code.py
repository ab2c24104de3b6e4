"""Promise 9: who can write to Redis cannot make a worker run code that its application did not register."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from redsched.codec.values import Record, pack_payload
from redsched.testing import Kit
from redsched.worker.worker import Worker


async def harmless() -> None: ...


async def _plant(kit: Kit, record: bytes) -> Worker:
    """Put a job into Redis as a client with write access could."""
    shard = (await kit.scheduler.store()).shards[0]
    await shard.link.command("HSET", shard.keys.job("planted"), "record", record)
    await shard.link.command("ZADD", shard.keys.due("default"), 1, "planted")
    return kit.scheduler.make_worker()


@pytest.mark.parametrize("task", ["os.system", "builtins.eval", "subprocess.run", "redsched.embedded.server.start"])
async def test_a_name_is_looked_up_and_never_imported(redsched_kit: Kit, task: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    record = Record(task, "planted", pack_payload([f"touch {trace}"], {}), {}).pack()
    worker = await _plant(redsched_kit, record)
    await worker.run_once()
    assert not trace.exists()
    assert [e.reason for e in await redsched_kit.scheduler.get_history("planted") if e.kind == "postponed"] == [
        "unknown_task"
    ]


async def test_a_named_module_gives_only_the_functions_that_it_decorates(redsched_kit: Kit) -> None:
    registry = redsched_kit.scheduler.registry
    registry.packages = ("tests.promises.test_9_no_foreign_code",)
    registry.load()
    for name in ("harmless", "os", "Path", "_plant", "Bomb.__reduce__", "Bomb"):
        assert registry.find(f"tests.promises.test_9_no_foreign_code.{name}") is None
    assert registry.find("os.system") is None
    assert registry.find("tests.conftest.anything") is None


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(pickle.dumps(Bomb()), id="pickle"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x95\x01", id="cut"),
        pytest.param(b"\xc1" * 10, id="no-msgpack"),
        pytest.param(b"\x91" * 5000 + b"\x01", id="deep"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="four-billion-items"),
    ],
)
async def test_a_record_that_is_none_ends_dead_and_harms_nobody(redsched_kit: Kit, record: bytes) -> None:
    worker = await _plant(redsched_kit, record)
    neighbour = await redsched_kit.scheduler.schedule_immediate_task("harmless", harmless)
    await worker.run_once()
    assert (await neighbour.result(timeout=5)).success
    dead = await redsched_kit.scheduler.get_dead()
    assert [job.reason for job in dead] == ["unreadable"]


async def test_arguments_that_cannot_be_decoded_end_the_run_with_that_reason(redsched_kit: Kit) -> None:
    redsched_kit.scheduler.register(harmless)
    name = f"{harmless.__module__}.harmless"
    worker = await _plant(redsched_kit, Record(name, "planted", b"\xc1", {}).pack())
    await worker.run_once()
    [event] = [e for e in await redsched_kit.scheduler.get_history("planted") if e.kind == "dead"]
    assert event.reason == "unreadable"
