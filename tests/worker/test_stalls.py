"""A blocked event loop, or a held interpreter: no run is lost, doubled or dead because another blocked its worker.

Two real worker processes share the jobs. What must not happen is that the second one begins what the first one holds.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import fresh_prefix
from redsched.worker import keeper, keeper_child
from tests.faults.local import until
from tests.invariants import check

LEASE = 2.0

APP = '''
import asyncio, logging, os, re, sys, time
import redsched

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
url, prefix, lease, limit = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])

def note(word):
    run = redsched.current_run()
    with open("ledger", "a") as ledger:
        ledger.write(f"{word} {run.job_id} {run.attempt} {os.getpid()}\\n")

async def burn(seconds):
    note("burn")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass
    note("burned")

async def block(seconds):
    note("block")
    await asyncio.sleep(0.01)
    time.sleep(seconds)
    note("blocked")

def hold(seconds):
    """One C call that holds the interpreter's lock, as long as it takes to be longer than that."""
    note("hold")
    size, took = 20, 0.0
    while took < seconds:
        began = time.monotonic()
        re.match("(a+)+$", "a" * size + "b")
        took = time.monotonic() - began
        size += 1 if took > 0.4 else 2
    note("held")

async def nap(seconds):
    note("nap")
    await asyncio.sleep(seconds)
    note("napped")

async def main():
    scheduler = redsched.BackgroundTaskScheduler(
        url, prefix, lease=lease, stall_limit=limit, declared_tasks=False, concurrency=20
    )
    for task in (burn, block, hold, nap):
        scheduler.register(task, name=task.__name__)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(15, stop.set)
    async with scheduler:
        print(scheduler.id, flush=True)
        if "handler" in sys.argv:
            await asyncio.sleep(3.0)
            time.sleep(4.0)
        await stop.wait()

if "uvloop" in sys.argv:
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
'''


class Workers:
    """Worker processes in a folder, with what they noted and logged."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.prefix = fresh_prefix()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ids: list[str] = []
        (folder / "app.py").write_text(APP)
        (folder / "ledger").touch()

    def add(self, *words: str, lease: float = LEASE, limit: float = 60.0) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "app.py", self.url, self.prefix, str(lease), str(limit), *words],
                cwd=self.folder, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        self.ids.append(process.stdout.readline().decode().strip())
        assert self.ids[-1], self.log
        return process

    async def add_with_keeper(self, *words: str, **options: float) -> subprocess.Popen[bytes]:
        """As `add`, and wait until its keeper could vouch at once: on a busy machine it takes a while to start."""
        process = self.add(*words, **options)
        await until(lambda: any(_resident(keeper) > 25_000 for keeper in keepers_of(process.pid)))
        return process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def notes(self) -> list[list[str]]:
        """Word, job id, attempt, pid."""
        return [line.split() for line in (self.folder / "ledger").read_text().splitlines()]

    def noted(self, word: str) -> list[list[str]]:
        return [note for note in self.notes if note[0] == word]

    def end(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _resident(pid: int) -> int:
    """Kilobytes."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def keepers_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    return [
        int(line.split()[0]) for line in found.splitlines() if line.split()[1] == str(pid) and "keeper_child.py" in line
    ]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def workers(tmp_path: Path, redsched_url: str) -> Iterator[Workers]:
    made = Workers(tmp_path, redsched_url)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
async def client(workers: Workers) -> AsyncIterator[BackgroundTaskScheduler]:
    made = BackgroundTaskScheduler(workers.url, workers.prefix, lease=LEASE, declared_tasks=False)
    for name in ("burn", "block", "hold", "nap"):
        made.register(_stand_in(), name=name)
    await made.start(worker=False)
    yield made
    await made.clear_all_jobs()
    await made.shutdown()


def _stand_in() -> Callable[..., Any]:
    async def stand_in(seconds: float) -> None:
        del seconds

    return stand_in


async def _schedule(client: BackgroundTaskScheduler, task: str, job_id: str, seconds: float, **options: Any) -> Any:
    found = client.registry.find(task)
    assert found is not None
    return await client.schedule_immediate_task(task, found.function, job_id=job_id, args=[seconds], **options)


async def _events(client: BackgroundTaskScheduler, kind: str) -> list[Any]:
    return [event for event in await client.get_history(limit=10_000) if event.kind == kind]


@pytest.mark.parametrize(("blocker", "loop"), [("burn", "asyncio"), ("burn", "uvloop"), ("block", "asyncio")])
async def test_a_blocked_loop_keeps_what_it_holds_and_tells_who_blocked_it(
    workers: Workers, client: BackgroundTaskScheduler, blocker: str, loop: str
) -> None:
    await workers.add_with_keeper(loop)
    naps = [await _schedule(client, "nap", f"nap{n}", 0.5) for n in range(3)]
    await until(lambda: len(workers.noted("nap")) == 3)
    burning = await _schedule(client, blocker, "blocker", 5.0)
    await until(lambda: workers.noted(blocker))
    workers.add(loop)  # it would take all over, if it could
    results = [await handle.result(timeout=30) for handle in (burning, *naps)]
    assert [result.outcome for result in results] == ["done"] * 4
    assert {result.attempt for result in results} == {1}
    assert len(workers.notes) == 8, "something ran twice"
    assert not await _events(client, "recovered")
    assert not await _events(client, "refused")
    await until(lambda: "the event loop was blocked for" in workers.log)
    [told] = [line for line in workers.log.splitlines() if "the event loop was blocked for" in line]
    seconds = re.search(r"blocked for ([\d.]+) s by task '(\w+)' \(job blocker", told)
    assert seconds is not None
    assert seconds[2] == blocker
    assert 4.0 < float(seconds[1]) < 9.0
    assert "processpool" in told
    assert "app.py" in told
    [event] = await _events(client, "stalled")
    assert (event.job_id, event.task, event.worker) == ("blocker", blocker, workers.ids[0])
    assert event.run_id == "blocker", "its id is that of the run, as requeue takes it"
    assert abs(event.execution_time - float(seconds[1])) < 0.1
    await check(await client.store())


async def test_a_held_interpreter_keeps_what_its_process_holds_and_the_function_is_named(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    await workers.add_with_keeper()
    naps = [await _schedule(client, "nap", f"nap{n}", 0.5) for n in range(3)]
    await until(lambda: len(workers.noted("nap")) == 3)
    holding = await _schedule(client, "hold", "holder", 2 * LEASE)
    await until(lambda: workers.noted("hold"))
    workers.add()
    results = [await handle.result(timeout=120) for handle in (holding, *naps)]
    assert [(result.outcome, result.attempt) for result in results] == [("done", 1)] * 4
    assert len(workers.notes) == 8, "something ran twice"
    assert not await _events(client, "recovered")
    stalls = await _events(client, "stalled")
    assert "hold" in {event.task for event in stalls}
    assert "interpreter's lock" in workers.log
    assert "processpool" in workers.log


async def test_what_is_no_task_is_told_with_its_place_and_harms_no_run(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    handles = [await _schedule(client, "nap", f"nap{n}", 5.0) for n in range(3)]
    workers.add("handler")
    await until(lambda: len(workers.noted("nap")) == 3)
    workers.add()
    results = [await handle.result(timeout=30) for handle in handles]
    assert [(result.outcome, result.attempt) for result in results] == [("done", 1)] * 3
    assert len(workers.notes) == 6
    await until(lambda: "the event loop was blocked for" in workers.log)
    assert "no task of redsched" in workers.log
    assert re.search(r"app\.py:\d+ in main", workers.log)
    [event] = await _events(client, "stalled")
    assert (event.job_id, event.task) == ("", None)


async def test_past_the_limit_others_take_over_and_only_the_one_that_blocks_ends_dead(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    """With two workers the innocent run goes along from one to the other, more often than its own recoveries."""
    for _ in range(2):
        await workers.add_with_keeper(lease=1.6, limit=3.0)
    options = {"max_recoveries": 1}
    innocent = [await _schedule(client, "nap", f"nap{n}", 4.0, **options) for n in range(4)]
    await until(lambda: len(workers.noted("nap")) == 4)
    burning = await _schedule(client, "burn", "burner", 5.0, **options)
    result = await burning.result(timeout=60)
    assert (result.outcome, result.reason) == ("dead", "recoveries_used_up")
    results = [await handle.result(timeout=40) for handle in innocent]
    assert [(result.outcome, result.attempt) for result in results] == [("done", 1)] * 4
    recovered = await _events(client, "recovered")
    assert {event.job_id for event in recovered} > {"burner"}, "the burner was alone"
    assert "stalled" in {event.reason for event in recovered}
    assert "longer than stall_limit" in workers.log
    await check(await client.store())


async def test_a_stopped_process_is_recovered_after_its_lease_and_what_comes_back_did_not_die(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    first = workers.add()
    handle = await _schedule(client, "nap", "nap", 8.0, max_recoveries=1)
    await until(lambda: workers.noted("nap"))
    workers.add()
    first.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    await until(lambda: len(workers.noted("nap")) == 2)
    assert time.monotonic() - stopped < LEASE + 1.5, "somebody kept the lease of a stopped process"
    [event] = await _events(client, "recovered")
    assert event.reason in ("lease_expired", "stalled")  # the latter, if it was slow before it was stopped
    store = await client.store()
    key = store.shards[0].keys.job("nap")
    assert await store.link.command("HGET", key, "recoveries") == b"1"
    first.send_signal(signal.SIGCONT)

    async def is_excused() -> bool:
        return await store.link.command("HGET", key, "recoveries") == b"0"

    async with asyncio.timeout(10):
        while not await is_excused():
            await asyncio.sleep(0.05)
    assert (await handle.result(timeout=30)).outcome == "done"


async def test_a_process_that_dies_while_it_is_blocked_is_recovered_soon_and_its_keeper_goes_with_it(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    first = await workers.add_with_keeper()
    nap = await _schedule(client, "nap", "nap", 1.0)
    await until(lambda: workers.noted("nap"))
    await _schedule(client, "burn", "burner", 30.0, timeout=60.0, max_recoveries=0)
    await until(lambda: workers.noted("burn"))
    [keeper] = keepers_of(first.pid)
    await asyncio.sleep(LEASE + 1)
    assert not await _events(client, "recovered")
    first.kill()
    killed = time.monotonic()
    await until(lambda: not is_there(keeper), seconds=5)
    workers.add()
    assert (await nap.result(timeout=20)).outcome == "done"
    assert time.monotonic() - killed < 2 * LEASE + 4


async def test_a_keeper_survives_the_signals_of_its_group_and_is_replaced_when_it_dies(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    worker = workers.add()
    await until(lambda: keepers_of(worker.pid))
    [keeper] = keepers_of(worker.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(keeper, number)
    await asyncio.sleep(0.2)
    assert is_there(keeper)
    os.kill(keeper, signal.SIGKILL)
    await until(lambda: any(_resident(other) > 25_000 for other in keepers_of(worker.pid) if other != keeper))
    assert "keeper process" in workers.log
    again = await _schedule(client, "burn", "burner", 4.0)
    await until(lambda: workers.noted("burn"))
    workers.add()
    assert (await again.result(timeout=20)).attempt == 1
    [keeper] = keepers_of(worker.pid)
    worker.terminate()
    worker.wait()
    await until(lambda: not is_there(keeper), seconds=5)


async def test_a_keeper_that_is_given_no_time_says_so(workers: Workers, client: BackgroundTaskScheduler) -> None:
    worker = await workers.add_with_keeper()
    [keeper] = keepers_of(worker.pid)
    handle = await _schedule(client, "burn", "burner", 2 * LEASE)
    await until(lambda: workers.noted("burn"))
    os.kill(keeper, signal.SIGSTOP)
    await asyncio.sleep(LEASE)
    os.kill(keeper, signal.SIGCONT)
    assert (await handle.result(timeout=30)).outcome == "done"
    await until(lambda: "this machine left the keeper no time" in workers.log)
    assert re.search(r"nothing renewed them for [\d.]+ s, and they last 2 s", workers.log)


def test_a_sign_of_life_counts_from_when_it_was_given() -> None:
    """A keeper that is given no time reads it late, and must not take it for a new one."""
    silence = keeper_child.Silence(lease=2.0, limit=60.0, now=0.0)
    silence.beat(10.0, late=False)
    assert silence.seconds_to_vouch(10.4) == 0
    assert silence.seconds_to_vouch(10.6) == 2.0
    assert silence.gap(11.2) == 0
    assert silence.gap(11.4) == pytest.approx(1.4 + 2 / 3)
    silence.vouched_until = 12.6
    assert silence.gap(12.5) == 0
    assert silence.gap(12.7) == pytest.approx(2.1)


async def test_a_worker_that_was_stopped_is_not_said_to_have_a_late_keeper(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    worker = await workers.add_with_keeper()
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE + 0.5)
    worker.send_signal(signal.SIGCONT)
    handle = await _schedule(client, "nap", "nap", 1.0)
    assert (await handle.result(timeout=30)).outcome == "done"
    assert "no time" not in workers.log


async def test_an_idle_keeper_sends_nothing_and_no_password_is_seen(
    workers: Workers, client: BackgroundTaskScheduler
) -> None:
    worker = workers.add(lease=20.0)
    await until(lambda: keepers_of(worker.pid))
    [keeper] = keepers_of(worker.pid)
    arguments = Path(f"/proc/{keeper}/cmdline").read_bytes()
    assert workers.url.encode() not in arguments
    await asyncio.sleep(1.0)
    assert _resident(keeper) < 20_000, "it has imported what it does not need"
    sockets = [os.readlink(link) for link in Path(f"/proc/{keeper}/fd").iterdir()]
    assert not [link for link in sockets if link.startswith("socket:")]


async def test_without_a_process_a_thread_keeps_the_leases_of_a_blocked_loop(
    workers: Workers, client: BackgroundTaskScheduler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a program that brings its own interpreter."""

    def none() -> str:
        raise OSError("no Python program was found")

    monkeypatch.setattr(keeper, "python_program", none)

    async def blocks() -> None:
        time.sleep(4.0)

    here = BackgroundTaskScheduler(workers.url, workers.prefix, lease=1.0, declared_tasks=False)
    async with here:
        handle = await here.schedule_immediate_task("blocks", blocks, job_id="blocks", max_recoveries=0)
        assert (await handle.result(timeout=20)).outcome == "done"
        assert caplog.text.count("no keeper process can be started") == 1
        assert not await _events(client, "recovered")


async def test_without_a_limit_there_is_no_keeper(workers: Workers, client: BackgroundTaskScheduler) -> None:
    worker = workers.add(limit=0.0)
    await asyncio.sleep(0.5)
    assert keepers_of(worker.pid) == []
