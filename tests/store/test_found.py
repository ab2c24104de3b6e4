"""How plain runs ended is found by their ids alone, in whatever batches their workers reported them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from zlib import crc32

import msgpack
import pytest

from redsched.client.outcomes import Ended
from redsched.store.marks import PARTS, index_of, mark_of
from redsched.store.queries import clear
from redsched.store.scripts import lua_folder
from redsched.store.store import Store
from redsched.testing import fresh_prefix
from tests.store.raw import LIMITS, Raw, row

TTL_MS = 300_000
LONG = "long:" + "x" * 300
ODD = [
    "a", "9", "1:1", "except 0", "ended", "éàü:½", "a b", "line\nend", "@", "x@y", "n" * 31, "n" * 32, "n" * 255, LONG,
]  # fmt: skip


@pytest.fixture
async def raw(redsched_url: str) -> AsyncIterator[Raw]:
    store = Store(redsched_url, fresh_prefix(), limits=LIMITS)
    yield Raw(store)
    await clear(store)
    await store.close()


def plain(claimed: Sequence[Any], *, task: str = "task", duration: int = 3, **more: Any) -> tuple[Any, ...]:
    """The row of a plain run that is done."""
    run_id, fence, _, fire_ms, *_ = claimed
    kept = more.get("kept", True)
    rest = (task, False, 0, False, False, 0, *(() if kept else (0,)))
    return (run_id.decode("utf-8", "surrogateescape"), fence, "done", fire_ms, 1, 0, duration, *rest)


async def claim(raw: Raw, ids: Sequence[str], worker: str = "w") -> list[Any]:
    await raw.shard.schedule([row(one) for one in ids])
    claims: list[Any] = []
    while len(claims) < len(ids):
        claims += (await raw.worker(worker).poll(capacity=1000)).claims
    assert all(type(one) is tuple for one in claims), "they are plain"
    return claims


async def settle(raw: Raw, rows: Sequence[Any], *others: Any, worker: str = "w", **more: Any) -> Any:
    tokens = [part for one in rows for part in one[:2]]
    found = [one[0] for one in rows if len(one) == 13]
    return await raw.worker(worker).poll(*rows, *others, capacity=0, done=tokens, found=found, **more)


async def run(raw: Raw, ids: Sequence[str], **more: Any) -> None:
    await settle(raw, [plain(one, **more) for one in await claim(raw, ids)])


async def ask(raw: Raw, ids: Sequence[str]) -> list[Ended | None]:
    answers, *_ = await raw.shard.outcome(ids)
    return [Ended.of(run_id, answer) for run_id, answer in zip(ids, answers, strict=True)]


async def kinds(raw: Raw, ids: Sequence[str]) -> list[str | None]:
    return [one and one.kind for one in await ask(raw, ids)]


async def names(raw: Raw, kind: str) -> list[str]:
    return [name for name in await raw.names() if name.startswith(kind)]


@pytest.mark.parametrize("size", [1, 2, 3, 17, 250, 1000])
async def test_each_run_is_found_whatever_the_size_of_its_batch(raw: Raw, size: int) -> None:
    ids = [f"job-{number}" for number in range(size)]
    for start in range(0, size, 250):
        await run(raw, ids[start : start + 250], task="bake:pizza", duration=12)
    for one in await ask(raw, ids):
        assert one is not None
        assert (one.kind, one.task, one.duration_ms, one.attempt) == ("done", "bake:pizza", 12, 1)
        assert one.fire_ms
        assert one.run_id in ids
    assert await kinds(raw, [f"other-{number}" for number in range(500)]) == [None] * 500
    assert len(await names(raw, "ended:")) == 0, "no field for each run"


@pytest.mark.parametrize("job_id", ODD, ids=range(len(ODD)))
async def test_an_application_may_give_any_id(raw: Raw, job_id: str) -> None:
    await run(raw, [job_id])
    assert await kinds(raw, [job_id, job_id + "x", job_id[:-1] + "?"]) == ["done", None, None]


async def test_ids_of_any_form_are_told_apart_in_one_batch(raw: Raw) -> None:
    await run(raw, ODD)
    assert await kinds(raw, ODD) == ["done"] * len(ODD)


async def test_ids_of_the_same_mark_are_told_apart(raw: Raw) -> None:
    one, other = "plumless", "buckeroo"
    assert crc32(one.encode()) == crc32(other.encode())
    assert mark_of(one) == mark_of(other)
    await run(raw, [one], duration=1)
    assert await kinds(raw, [other, one]) == [None, "done"], "the mark is there, and of another"
    await run(raw, ["between"])
    await run(raw, [other], duration=2)
    assert [found and found.duration_ms for found in await ask(raw, [one, other])] == [1, 2]


def test_the_scripts_agree_on_the_parts_of_an_index() -> None:
    include = lua_folder() / "include"
    outcomes, finish = ((include / f"{name}.lua").read_text() for name in ("outcomes", "finish"))
    assert re.findall(r"local INDEX_PARTS = (\d+)\n", outcomes) == [str(PARTS)]
    assert re.findall(r"local PARTS, .* = (\d+), ", finish) == [str(PARTS)]


def test_marks_never_hold_a_lines_end() -> None:
    ids = [f"job-{number}" for number in range(5000)]
    assert any(b"\n" in crc32(one.encode()).to_bytes(4, "big") for one in ids), "else this shows nothing"
    assert b"\n" not in index_of(ids)[32:]
    assert all(b"\n" not in mark_of(one)[1] for one in ids)


async def test_of_several_runs_of_one_id_the_last_one_is_found(raw: Raw) -> None:
    for duration in range(1, 6):
        await run(raw, ["again"], duration=duration)
        [found] = await ask(raw, ["again"])
        assert found
        assert found.duration_ms == duration


async def test_a_plain_end_and_another_of_one_id_are_told_in_their_order(raw: Raw) -> None:
    await run(raw, ["job"], duration=0)
    await raw.freeze(1000)
    [other] = await claim(raw, ["job"])
    await raw.freeze(1000)
    await raw.worker("w").poll([*plain(other)[:2], "dead", *plain(other)[3:8], "task_failed", *plain(other)[9:]])
    await raw.shard.cancel(ids=["job"], how="remove")
    assert await kinds(raw, ["job"]) == ["dead"]
    await raw.freeze(1000)
    await run(raw, ["job"], duration=0)
    assert await kinds(raw, ["job"]) == ["done"]


async def test_a_row_that_is_refused_is_not_found_as_done(raw: Raw) -> None:
    claims = await claim(raw, ["kept", "stolen", "gone"])
    await raw.command("HSET", raw.keys.job("stolen"), "fence", 2**52)
    await raw.shard.cancel(ids=["gone"], how="remove")
    await raw.command("DEL", raw.keys.job("gone"))
    reply = await settle(raw, [plain(one) for one in claims])
    assert sorted(reply.refused) == [b"gone", b"stolen"]
    assert await kinds(raw, ["kept"]) == ["done"]
    assert "done" not in await kinds(raw, ["stolen", "gone"])
    again = await settle(raw, [plain(one) for one in claims])
    assert sorted(again.refused) == [b"gone", b"kept", b"stolen"], "a late copy under another number"
    assert await kinds(raw, ["kept"]) == ["done"]
    assert "done" not in await kinds(raw, ["stolen", "gone"])


async def test_a_late_row_of_another_worker_does_not_hide_how_the_run_ended(raw: Raw) -> None:
    [late] = await claim(raw, ["job"], "slow")
    await raw.expire("job")
    [again] = (await raw.worker("quick").poll()).claims
    reply = await settle(raw, [plain(late, duration=1)], worker="slow")
    assert reply.refused == [b"job"]
    assert await kinds(raw, ["job"]) == [None]
    await raw.worker("quick").poll([*plain(again)[:2], "done", *plain(again)[3:6], 2, *plain(again)[7:]])
    await settle(raw, [plain(late, duration=1)], worker="slow")
    [found] = await ask(raw, ["job"])
    assert found
    assert found.duration_ms == 2


async def test_a_run_that_is_waited_for_and_one_that_failed_are_found_beside_the_plain_ones(raw: Raw) -> None:
    ids = [f"job-{number}" for number in range(50)]
    claims = await claim(raw, [*ids, "failed"])
    await raw.shard.outcome(["job-7"], "client")
    rows = [plain(one) for one in claims if one[0] != b"failed"]
    [failed] = [plain(one) for one in claims if one[0] == b"failed"]
    await settle(raw, rows, (*failed[:2], "cancelled", *failed[3:]))
    assert await kinds(raw, ids) == ["done"] * 50
    assert await kinds(raw, ["failed"]) == ["cancelled"]
    assert await raw.command("LLEN", raw.keys.answers("client")) == 1


async def test_nobody_finds_what_is_not_to_be_kept(raw: Raw) -> None:
    claims = await claim(raw, ["kept", "secret"])
    await settle(raw, [plain(one, kept=one[0] == b"kept") for one in claims])
    assert await kinds(raw, ["kept", "secret"]) == ["done", None]
    await run(raw, ["alone"], kept=False)
    assert await kinds(raw, ["alone"]) == [None]
    assert len(await raw.command("HKEYS", f"{raw.keys.tag}batches:1")) == 1, "nothing is stored for it"


async def test_what_a_worker_of_the_form_before_wrote_is_found_beside_the_new(raw: Raw) -> None:
    await run(raw, ["new"])
    await raw.command("HSET", f"{raw.keys.tag}ended:1", "old", "1700000000000 5 7 bake:pizza")
    found = await ask(raw, ["old", "new"])
    assert [one and (one.kind, one.duration_ms) for one in found] == [("done", 7), ("done", 3)]
    await raw.command("HSET", f"{raw.keys.tag}ended:1", "new", "1700000000000 5 7 bake:pizza")
    [new] = await ask(raw, ["new"])
    assert new
    assert new.duration_ms == 3, "the later one"


async def test_the_oldest_make_room_when_their_bytes_are_used_up(raw: Raw) -> None:
    limit = raw.shard._bounds["outcomes_max_bytes"] = 400_000
    batches = [[f"job-{batch}-{number}" for number in range(40)] for batch in range(150)]
    for ids in batches:
        await run(raw, ids)
        taken = 0
        for name in [*await names(raw, "batches:"), *await names(raw, "index:")]:
            taken += await raw.command("MEMORY", "USAGE", raw.keys.tag + name, "SAMPLES", 0)
        assert taken < 1.15 * limit
    assert taken > 0.6 * limit
    is_kept = [await kinds(raw, ids) == ["done"] * 40 for ids in batches]
    assert is_kept == sorted(is_kept), "the newest"
    assert 60 < sum(is_kept) < 150
    for name in [*await names(raw, "batches:"), *await names(raw, "index:"), *await names(raw, "ended:")]:
        assert 0 < await raw.command("PTTL", raw.keys.tag + name) <= TTL_MS + 20_000, name


async def test_a_batch_that_takes_more_than_a_turns_share_is_found(raw: Raw) -> None:
    raw.shard._bounds["outcomes_max_bytes"] = 3200
    for batch in range(5):
        ids = [f"job-{batch}-{number}" for number in range(100)]
        await run(raw, ids)
        assert await kinds(raw, ids) == ["done"] * 100
    assert len(await names(raw, "batches:")) == 1


async def test_a_turn_ends_with_its_time(raw: Raw) -> None:
    for number in range(40):
        await raw.freeze(25_000)
        await run(raw, [f"job-{number}"])
    assert await kinds(raw, [f"job-{number}" for number in range(40)]) == [None] * 8 + ["done"] * 32
    assert len(await names(raw, "batches:")) == 32


@pytest.mark.alone
async def test_five_hundred_of_two_hundred_thousand_are_found_in_scripts_of_a_few_milliseconds(raw: Raw) -> None:
    ids = [f"job-{number}" for number in range(250)]
    await run(raw, ids)
    others = [plain((f"other-{number}".encode(), number, 1, 1_700_000_000_000)) for number in range(250)]
    rows = msgpack.packb(others, use_bin_type=False)
    for batch in range(800):
        index, at = index_of([f"other-{batch}-{number}" for number in range(250)]), 32
        for part in range(8):
            size = 4 * int.from_bytes(index[4 * part : 4 * part + 4], "big")
            piece = b"9%d\n%s\n" % (batch, index[at : at + size])
            await raw.command("APPEND", f"{raw.keys.tag}index:{1 + batch // 25}:{part + 1}", piece)
            at += size
        await raw.command("HSET", f"{raw.keys.tag}batches:{1 + batch // 25}", f"9{batch}", rows)
    await raw.command("HSET", raw.keys.clock, "outcomes", 32)
    await raw.command("CONFIG", "RESETSTAT")
    began = time.perf_counter()
    assert await kinds(raw, [*ids, *(f"unknown-{number}" for number in range(250))]) == ["done"] * 250 + [None] * 250
    assert time.perf_counter() - began < 1
    stats = (await raw.command("INFO", "commandstats")).decode()
    [told] = [line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:")]
    calls, usec = (int(part.partition("=")[2]) for part in told.partition(":")[2].split(",")[:2])
    assert usec / calls < 10_000, f"{usec} us in {calls} calls"


HOSTILE = [
    b"", b"\n", b"x" * 10, b"\n" * 10_000, b"9" * 100_000, b"\x00" * 100_000, b"5\n" * 5000, b"0\n" + b"\xff" * 4000,
    b"0\nabcd\n" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("written", HOSTILE, ids=range(len(HOSTILE)))
async def test_whatever_another_writes_there_makes_no_reader_fail(raw: Raw, written: bytes) -> None:
    ids = [f"job-{number}" for number in range(100)]
    await run(raw, ids)
    batches = f"{raw.keys.tag}batches:1"
    for part in range(1, 9):
        await raw.command("APPEND", f"{raw.keys.tag}index:1:{part}", written)
    assert set(await kinds(raw, [*ids, "unknown"])) <= {"done", None}
    for name in await raw.command("HKEYS", batches):
        await raw.command("HSET", batches, name, written, b"except " + name, written)
    assert await kinds(raw, [*ids, "unknown"]) == [None] * 101
    for part in range(1, 9):
        await raw.command("SET", f"{raw.keys.tag}index:1:{part}", (b"0\n" + mark_of("job-1")[1][::-1]) * 5000)
    assert set(await kinds(raw, [*ids, "unknown"])) == {None}
    for kind in (batches, *(f"{raw.keys.tag}index:1:{part}" for part in range(1, 9))):
        await raw.command("DEL", kind)
        await raw.command("SADD", kind, "of another type")
    assert await kinds(raw, ids) == [None] * 100
    await run(raw, ["after"])
    assert await kinds(raw, ["after"]) == ["done"], "where an index cannot be written, it has a field"


FORGED = [
    ["job", 1, "done", "x", 1, 0, 0, "task", False, 0, False, False, 0], ["job", 1, "done"], "job", {"job": 1},
    ["job", 1, "done", 1, 1, 0, 0, ["task"], False, 0, False, False, 0], ["job", 1, "retry", 1, 1, 0, 0, "task"],
    ["other", 1, "done", 1, 1, 0, 0, "task", False, 0, False, False, 0],
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED, ids=range(len(FORGED)))
async def test_rows_that_are_none_are_not_taken_for_an_outcome(raw: Raw, forged: Any) -> None:
    await run(raw, ["job"])
    [name] = await raw.command("HKEYS", f"{raw.keys.tag}batches:1")
    packed = msgpack.packb([forged], use_bin_type=False)
    await raw.command("HSET", f"{raw.keys.tag}batches:1", name, packed)
    assert await kinds(raw, ["job"]) == [None]
    for size in range(1, len(packed)):
        await raw.command("HSET", f"{raw.keys.tag}batches:1", name, packed[:size])
        assert await kinds(raw, ["job"]) == [None]
