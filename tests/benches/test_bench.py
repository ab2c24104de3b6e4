"""The benchmark counts honestly: a lost or doubled job is told, what fails is in the table, nothing is left running."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench import Bench, Peer, PeerError, server
from benchmarks.compare import OURS, Figures, Run, immediate, install_all, spread
from benchmarks.goals import goals
from benchmarks.report import as_json, as_markdown, as_text

pytestmark = pytest.mark.skipif(
    not (shutil.which("redis-server") or shutil.which("valkey-server")),
    reason="the benchmarks start a server from PATH",
)

MACHINE = {"cores": 2, "server": "redis 7"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server() as number:
        yield number


def quiet(port: int) -> Run:
    run = Run(port, True, lambda _: None)
    run.began = time.monotonic()
    return run


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_job_is_counted_once_and_the_worker_ends_with_the_bench(port: int) -> None:
    with Bench(OURS, port, 30) as bench:
        found = immediate(bench, 300)
        [worker] = bench.work()[:1]
        assert alive(worker)
    assert not alive(worker)
    assert found["immediate, jobs/s"] > 0
    assert found["bulk adding, jobs/s"] > 0


def test_lateness_counts_from_the_due_instant(port: int) -> None:
    with Bench(OURS, port, 30) as bench:
        found = spread(bench, 100, 0.3, 1000)
    assert 0 <= found["lateness at 100/s, p50 ms"] <= found["lateness at 100/s, max ms"] < 5000


@pytest.mark.parametrize(
    ("numbers", "told"), [((0, 2), "1 of 3 jobs lost"), ((0, 1, 2, 2), "0 of 3 jobs lost, 1 doubled")]
)
def test_a_lost_or_doubled_job_is_told(port: int, numbers: tuple[int, ...], told: str) -> None:
    with Bench(OURS, port, 30) as bench:
        bench.ledger.write_bytes(b"".join(b"%010d %012d\n" % (number, 5) for number in numbers))
        with pytest.raises(PeerError, match=told):
            bench.effects(3)


def test_a_queue_that_cannot_be_installed_stands_in_the_table(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Peer("arq", "arq_peer.py", 1, ("./there-is-no-such-folder",))
    monkeypatch.setattr("benchmarks.compare.PEERS", (OURS, broken))
    monkeypatch.setattr("benchmarks.environments.FOLDER", tmp_path)
    run = quiet(port)
    assert install_all(run, None) == [OURS]
    monkeypatch.undo()
    assert "- arq, install: cannot be installed" in as_markdown(run, MACHINE)


def test_one_that_exceeds_its_limit_is_told_and_does_not_hold_up_the_rest(port: int) -> None:
    run = quiet(port)
    slow = replace(OURS, name="arq")

    def work(bench: Bench) -> Figures:
        if bench.peer is slow:
            bench._deadline = 0.0
            bench.wait(1)
        return {"immediate, jobs/s": 20_000.0}

    run.scenario("immediate", [slow, OURS], work)
    assert "arq, immediate: 0 of 1 jobs ran" in as_markdown(run, MACHINE)
    assert run.figures == {"redsched": {"immediate, jobs/s": 20_000.0}}


def test_a_goal_is_a_ratio_to_the_best_queue_of_the_same_run(port: int) -> None:
    run = quiet(port)
    run.note("redsched", {"immediate, jobs/s": 32_000.0, "worker CPU a job, us": 20.0})
    run.note("arq", {"immediate, jobs/s": 1000.0, "worker CPU a job, us": 200.0})
    run.note("SAQ", {"immediate, jobs/s": 2000.0, "worker CPU a job, us": 400.0})
    found = {goal.what: goal for goal in goals(run.figures)}
    best = found["immediate, against the best Python queue"]
    assert (best.value, best.beside, best.reached) == (16.0, "SAQ", True)
    cpu = found["worker CPU a job: the best Python queue's against ours"]
    assert (cpu.value, cpu.beside, cpu.reached) == (10.0, "arq", False)
    assert "| immediate, against the best Python queue | ≥ 16× | 16 | yes | SAQ |" in as_markdown(run, MACHINE)
    assert "redsched         ████" in as_text(run)
    assert as_json(run, MACHINE)["figures"]["arq"]["immediate, jobs/s"] == 1000.0


def test_the_median_of_the_rounds_counts(port: int) -> None:
    run = quiet(port)
    for value in (1.0, 50.0, 3.0):
        run.note("arq", {"immediate, jobs/s": value})
    assert run.figures["arq"] == {"immediate, jobs/s": 3.0}
    assert run.rounds["arq"] == {"immediate, jobs/s": [1.0, 50.0, 3.0]}
