"""`redsched chaos` in a very short form: promises hold, and the whole machinery works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from redsched import BackgroundTaskScheduler, Event, Reason
from redsched.chaos import faults
from redsched.chaos.cell import Outcome, run_fault
from redsched.chaos.clock import Clock
from redsched.chaos.evidence import Evidence
from redsched.chaos.faults import ALL, Fault, clocks
from redsched.chaos.faults.parking import TaskKnownByFew
from redsched.chaos.tasks import KNOWN_BY_FEW
from redsched.chaos.wishes import Change, Wish
from redsched.cli.root import build
from redsched.testing import ledger
from redsched.testing.fleet import FleetError
from redsched.testing.servers import find_server
from tests.invariants import check
from tests.servers import ROOT

JOBS = 300


async def look(scheduler: BackgroundTaskScheduler) -> None:
    await check(await scheduler.store())


@pytest.mark.slow
@pytest.mark.parametrize(
    # Of few jobs a kill may meet none that may begin again.
    ("name", "jobs"),
    [
        ("worker-kill", 4 * JOBS),
        ("task-known-by-few", 4 * JOBS),
        ("reply-cut", JOBS),
        ("redis-kill-always", JOBS),
        ("memory-full", JOBS),
    ],
)
async def test_nothing_is_lost_doubled_early_or_left_without_a_reason(name: str, jobs: int) -> None:
    outcome = await run_fault(
        ALL[name], seed=11, jobs=jobs, rate=250, shortest_s=1.5, binary=find_server(), look=look
    )  # fmt: skip
    assert outcome.violations == []
    assert outcome.skipped is None
    verdict = outcome.verdict
    assert verdict.accepted + verdict.refused == jobs
    assert verdict.effects > verdict.accepted * 0.7
    assert (verdict.refused > 0) == (name == "memory-full")
    if name == "worker-kill":
        assert verdict.recoveries, "no kill met a run"


@pytest.mark.slow
async def test_redis_that_forgets_what_it_acknowledged_is_noticed_and_not_blamed_on_the_scheduler() -> None:
    outcome = await run_fault(
        ALL["power-loss-everysec"], seed=11, jobs=JOBS, rate=200, shortest_s=3.0, binary=find_server()
    )  # fmt: skip
    assert outcome.violations == []
    assert sum(map(len, outcome.verdict.problems.values())) > 0


async def test_what_cannot_be_made_here_is_skipped_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_library", lambda: None)
    outcome = await run_fault(
        ALL["redis-clock-back"], seed=1, jobs=JOBS, rate=200, shortest_s=1.0, binary=find_server()
    )  # fmt: skip
    assert outcome.skipped is not None
    assert "apt install faketime" in outcome.skipped


@pytest.mark.skipif(clocks._library() is None, reason="libfaketime is not installed")
def test_a_wrong_clock_is_wrong() -> None:
    def now(shift: str) -> int:
        made = clocks._environment(FAKETIME=shift)
        return int(subprocess.run(["date", "+%s"], env={**os.environ, **made}, capture_output=True, check=True).stdout)

    assert 7190 < now("+1h") - now("-1h") < 7210


@pytest.mark.skipif(clocks._library() is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("shift", ["+1h", "-1h"])
def test_under_a_wrong_clock_threads_sleep_and_the_ledger_has_the_right_one(tmp_path: Path, shift: str) -> None:
    code = """if True:
        import sys, threading, time
        from redsched.testing.ledger import Ledger
        written = Ledger(sys.argv[1])
        def work():
            time.sleep(0.01)
            written.write("start", "job", 1, 1, 1)
        threads = [threading.Thread(target=work) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join(5) for thread in threads]
    """
    path = tmp_path / "ledger"
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", code, path], env={**os.environ, **clocks._environment(FAKETIME=shift)}, check=True
    )  # fmt: skip
    lines = ledger.read(path)
    assert len(lines) == 3
    assert all(began <= line.at <= time.monotonic() for line in lines)


def test_claims_in_vain_of_a_task_that_few_know_are_counted_for_each_job() -> None:
    known, few = Wish("known", "now", 0.0, {}), Wish("few", "now", 0.0, {}, task=KNOWN_BY_FEW)

    def examined(*in_vain: str) -> list[str]:
        now, why = datetime.now(UTC), Reason.UNKNOWN_TASK
        events = [Event(kind="postponed", job_id=job, at=now, reason=why) for job in in_vain]
        return TaskKnownByFew().examine(Evidence([known, few], [], events, {}, Clock([(0.0, 0)]), [], {}))

    assert examined("few") == []
    assert examined("few", "few") == ["few was claimed in vain 2 times, and 1 are allowed"]
    assert examined("few", "known") == ["known was claimed in vain 1 times, and 0 are allowed"]
    assert examined() == ["no worker claimed a job of a task that it does not know"]
    few.changes = [Change("move", 0.0, began=1.0)]
    assert examined("few", "few") == []


def test_a_fault_is_in_the_matrix_once() -> None:
    with pytest.raises(ValueError, match="two faults of the name 'none'"):
        faults.register(ALL["none"])


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redsched.cli", "chaos", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_list_names_each_fault_and_what_it_needs() -> None:
    lines = command("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(ALL)
    assert "libfaketime" in next(line for line in lines if line.startswith("redis-clock-back"))


def test_an_unknown_fault_or_server_is_refused() -> None:
    done = command("--fault", "earthquake")
    assert done.returncode == 2
    assert "earthquake" in done.stderr
    assert command("--server", "/nowhere/redis-server").returncode == 2


@pytest.mark.slow
def test_the_command_writes_its_table(tmp_path: Path) -> None:
    done = command(
        "--fault", "none", "--jobs", 100, "--short", "--seed", 3, "--server", "embedded",
        "--json", tmp_path / "told.json", "--markdown", tmp_path / "table.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["seed"], told["kept"]) == (3, True)
    assert told["server"].startswith("Valkey")
    [fault] = told["faults"]
    assert (fault["fault"], fault["accepted"], fault["lost"]) == ("none", 100, 0)
    assert "| none | 100 |" in (tmp_path / "table.md").read_text()


def test_a_fault_that_cannot_be_made_does_not_end_the_matrix_and_what_was_found_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def made(kind: type[Fault], **how: Any) -> Outcome:
        if kind.name == "worker-kill":
            raise ExceptionGroup("unhandled", [FleetError("no worker came up")])
        if kind.name == "client-kill":
            raise KeyboardInterrupt
        return Outcome(kind, how["seed"], how["jobs"])

    def chaos(*names: str) -> Result:
        table.write_text("")
        options = [option for name in names for option in ("--fault", name)]
        return CliRunner().invoke(build(), ["chaos", *options, "--markdown", str(table)])

    monkeypatch.setattr("redsched.chaos.cli.run_fault", made)
    table = tmp_path / "table.md"
    unmade = chaos("worker-kill", "none")
    assert unmade.exit_code == 3
    assert "worker-kill could not be made: no worker came up" in unmade.stderr
    assert "| none |" in table.read_text()
    assert chaos("none", "client-kill", "latency").exit_code == 130
    assert "| none |" in table.read_text()


def test_the_docs_show_each_fault_and_what_it_shows() -> None:
    page = " ".join((ROOT / "docs" / "reliability.md").read_text().split())
    missing = [kind.name for kind in ALL.values() if f"**{kind.name}**" not in page or kind.shows not in page]
    assert missing == []
    assert "VIOLATED |" not in page
