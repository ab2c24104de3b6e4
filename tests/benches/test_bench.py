"""The benchmark counts honestly: lost or doubled jobs are shown, failures are in the table, nothing is left running."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.bench import Bench, Peer, PeerError, server
from benchmarks.claims import BEGIN, END, between, claims, figures_of, put_between
from benchmarks.compare import OURS, PEERS, PRODUCER, Figures, Run, immediate, install_all, producer, spread
from benchmarks.environments import HERE, folder_of
from benchmarks.goals import goals
from benchmarks.report import as_json, as_markdown, as_text

pytestmark = pytest.mark.skipif(
    not (shutil.which("redis-server") or shutil.which("valkey-server")),
    reason="the benchmarks start a server from PATH",
)

README = (HERE.parent / "README.md").read_text()
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


@pytest.mark.slow
@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.requires], ids=lambda peer: peer.name)
def test_each_adapter_runs_every_job_once(port: int, peer: Peer) -> None:
    """Where its environment was made: a run of the benchmark makes them, since that takes minutes."""
    name = peer.program.rpartition("_peer")[0]
    if not (folder_of(name) / "installed.json").exists():
        pytest.skip(f"no environment of {peer.name}: python -m benchmarks makes it")
    with Bench(peer, port, 60) as bench:
        if peer.queue:
            assert immediate(bench, 50)["immediate, jobs/s"] > 0  # it raises if one is lost or ran twice
            assert producer(bench, 50)[PRODUCER] > 0
    if peer.delayed:
        with Bench(peer, port, 60) as bench:
            assert spread(bench, 50, 1, 500)["lateness at 50/s, p50 ms"] >= 0


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_adapter_is_there_and_says_where_its_settings_are_from(peer: Peer) -> None:
    source = (HERE / "peers" / peer.program).read_text()
    assert peer.program.endswith(".mjs") or len(ast.get_docstring(ast.parse(source)) or "") > 60
    assert all("==" in each or "@" in each for each in peer.requires if peer.name.lower() in each.lower()), "pinned"
    assert ("python -m benchmarks" in README) and peer.name.partition(" ")[0] in README


def test_the_time_of_a_producer_has_the_start_and_the_end_of_its_process(port: int) -> None:
    with Bench(OURS, port, 30) as bench:
        adding_s = bench.produce("bulk", 100)
        assert bench.process_s > adding_s


def test_a_peer_gets_the_newest_python_where_this_one_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, says in (("3.97.1", "3 97"), ("3.98.0", "3 98"), ("3.99.0", "")):
        program = tmp_path / "versions" / version / "bin" / "python3"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho {says}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert environments.interpreter((3, 11)) == [sys.executable]
    assert environments.interpreter((3, 97)) == [str(tmp_path / "versions" / "3.98.0" / "bin" / "python3")]
    with pytest.raises(
        environments.InstallError, match=r"needs Python 3\.99, which is neither on PATH nor under pyenv"
    ):
        environments.interpreter((3, 99))


# -- README's figures -------------------------------------------------------------------------------------------------


def test_readme_says_what_the_table_says() -> None:
    page = (HERE.parent / "docs" / "performance.md").read_text()
    assert between(README).strip() == claims(figures_of(page)).strip(), "python -m benchmarks --claims"


def test_no_other_speed_is_claimed_in_readme() -> None:
    """A figure that is written by hand ages."""
    rest = README.replace(between(README), "")
    assert re.findall(r"\d[\d,.]* ?(?:jobs)?/s\b|\btimes the best\b", rest) == []


def test_a_claim_names_the_queue_that_it_is_compared_with_also_where_that_one_is_faster(port: int) -> None:
    run = quiet(port)
    run.note("redsched", {"immediate, jobs/s": 48_000.0, PRODUCER: 30_000.0, "worker CPU a job, us": 8.0})
    run.note("ArdiQ", {"immediate, jobs/s": 9_600.0, PRODUCER: 40_000.0, "worker CPU a job, us": 50.0})
    run.note("taskiq", {"immediate, jobs/s": 2000.0, "worker CPU a job, us": 200.0})
    run.note("BullMQ (Node)", {"immediate, jobs/s": 25_000.0})
    page = f"{BEGIN}\n{as_markdown(run, MACHINE)}{END}"
    found = figures_of(page)
    assert found["ArdiQ"] == run.figures["ArdiQ"]
    said = claims(found)
    assert "| 48,000/s: 5 times the best other Python queue (ArdiQ, 9,600/s) |" in said
    assert "| 30,000/s: 0.75 times the best other Python queue (ArdiQ, 40,000/s) |" in said
    assert "8 µs; the best other Python queue needs 6.2 times that (ArdiQ, 50)" in said
    assert "All in one run, beside taskiq, ArdiQ, BullMQ (Node)." in said


def test_what_was_not_measured_is_not_claimed(port: int) -> None:
    said = claims({"redsched": {"immediate, jobs/s": 48_000.0}})
    assert "48,000/s" in said
    assert "Lateness" not in said
    assert "times" not in said


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="must have"):
        put_between("# Performance\n", "text")
