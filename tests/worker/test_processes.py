"""The process pool: no pickle, a killed call takes no other with it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from redsched import RetryPolicy
from redsched.codec.values import pack_payload, unpack_result
from redsched.errors import EncodingError, InvalidInputError, SchedulerStateError, TaskFailedError
from redsched.testing import Kit
from redsched.worker.executors.processes import ProcessPool, target_of
from tests.servers import ROOT, wait_until
from tests.worker import functions


class BadError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def fail_without_text() -> None:
    raise BadError


def fail_with(message: str) -> None:
    raise ValueError(message)


def fail_with_bytes_of_a_name() -> None:
    raise ValueError(os.fsdecode(b"caf\xe9"))


def close_stdout() -> None:
    sys.stdout.close()


def fork_and_die(told: str) -> None:
    """The forked process holds the pipes open while this one dies."""
    if os.fork() == 0:
        functions.tell_and_hang(told)
    wait_until(lambda: Path(told).exists() and Path(told).read_text())
    os._exit(3)


def variable(name: str) -> str | None:
    return os.environ.get(name)


def program_ignores_sigint() -> bool:
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def interrupted() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"


def loaded(module: str) -> bool:
    return module in sys.modules


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    made = ProcessPool(2)
    yield made
    await made.aclose(kill=True)


async def call(pool: ProcessPool, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return unpack_result(await pool.run(target_of(function), pack_payload(args, kwargs)))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


async def test_a_call_gives_what_the_function_returns(pool: ProcessPool) -> None:
    assert await call(pool, functions.add, 1, b=2) == 3
    assert await call(pool, functions.add_async, 1, 2) == 3


async def test_children_are_used_again(pool: ProcessPool) -> None:
    first = await call(pool, functions.pid)
    assert first != os.getpid()
    assert await call(pool, functions.pid) == first


async def test_an_exception_arrives_with_its_type_message_and_traceback(pool: ProcessPool) -> None:
    with pytest.raises(TaskFailedError, match="of no use") as caught:
        await call(pool, functions.fail)
    assert caught.value.error_type == "ValueError"
    assert "in fail" in caught.value.traceback


async def test_a_system_exit_fails_the_call_and_not_the_child(pool: ProcessPool) -> None:
    child = await call(pool, functions.pid)
    with pytest.raises(TaskFailedError) as caught:
        await call(pool, functions.leave)
    assert caught.value.error_type == "SystemExit"
    assert await call(pool, functions.pid) == child


async def test_a_child_that_dies_is_told_of_and_replaced(pool: ProcessPool) -> None:
    with pytest.raises(TaskFailedError, match="exit status 7") as caught:
        await call(pool, functions.die, 7)
    assert caught.value.error_type == "WorkerProcessDied"
    assert await call(pool, functions.add, 1) == 1


async def test_a_cancelled_call_ends_its_process_at_once(pool: ProcessPool, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    hanging = asyncio.create_task(call(pool, functions.tell_and_hang, str(told)))
    await asyncio.to_thread(wait_until, lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert not alive(child)
    assert await call(pool, functions.add, 1) == 1


async def test_two_calls_run_at_once(pool: ProcessPool, tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert await asyncio.gather(call(pool, functions.meet, a, b), call(pool, functions.meet, b, a)) == [True, True]


async def test_what_a_task_prints_does_not_disturb(pool: ProcessPool) -> None:
    assert await call(pool, functions.talk) == "said"
    assert await call(pool, functions.add, 1) == 1


async def test_a_result_that_cannot_be_encoded_is_named(pool: ProcessPool) -> None:
    with pytest.raises(EncodingError, match="object"):
        await call(pool, functions.unencodable)


async def test_a_result_above_the_limit_is_refused(pool: ProcessPool) -> None:
    assert len(await call(pool, functions.large, 200_000)) == 200_000
    with pytest.raises(EncodingError, match="above the limit"):
        await call(pool, functions.large, 300_000)


async def test_an_exception_whose_text_cannot_be_made_arrives_all_the_same(pool: ProcessPool) -> None:
    with pytest.raises(TaskFailedError, match="no text: RuntimeError") as caught:
        await call(pool, fail_without_text)
    assert caught.value.error_type == "BadError"


async def test_an_exception_with_what_is_no_unicode_arrives_all_the_same(pool: ProcessPool) -> None:
    with pytest.raises(TaskFailedError) as caught:
        await call(pool, fail_with_bytes_of_a_name)
    assert str(caught.value) == r"caf\udce9"


async def test_an_endless_message_is_shortened(pool: ProcessPool) -> None:
    with pytest.raises(TaskFailedError) as caught:
        await call(pool, fail_with, "x" * 200_000)
    assert len(str(caught.value)) == 100_000


async def test_a_task_that_closes_stdout_is_no_harm(pool: ProcessPool) -> None:
    child = await call(pool, functions.pid)
    await call(pool, close_stdout)
    assert await call(pool, functions.pid) == child


async def test_a_child_that_died_while_idle_costs_no_call(pool: ProcessPool) -> None:
    child = await call(pool, functions.pid)
    os.kill(child, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: not alive(child))
    assert await call(pool, functions.pid) != child


async def test_the_death_of_a_child_is_noticed_though_what_it_forked_lives(pool: ProcessPool, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailedError, match="exit status 3"):
            await call(pool, fork_and_die, str(told))
    forked = int(told.read_text())
    assert alive(forked)
    os.kill(forked, signal.SIGKILL)


async def test_a_task_sees_the_python_path_of_its_worker(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert await call(pool, variable, "PYTHONPATH") is None
    other = ProcessPool(1)
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    assert await call(other, variable, "PYTHONPATH") == "/nowhere"
    await other.aclose()


async def test_a_child_takes_no_notice_of_ctrl_c_and_programs_of_a_task_do(pool: ProcessPool) -> None:
    assert await call(pool, interrupted) == "went on"
    assert await call(pool, program_ignores_sigint) is False


async def test_modules_are_imported_before_the_first_task() -> None:
    pool = ProcessPool(1, on_child_start=("this",))
    assert await call(pool, loaded, "this")
    await pool.aclose()
    pool = ProcessPool(1, on_child_start=("no_such_module",))
    with pytest.raises(TaskFailedError, match="no_such_module"):
        await call(pool, functions.add, 1)
    await pool.aclose()


async def test_a_call_that_is_cancelled_while_its_child_starts_leaves_nothing() -> None:
    pool = ProcessPool(1)
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    for pause in (0, 0, 0.001, 0.002, 0.004, 0.008):
        calling = asyncio.create_task(call(pool, functions.add, 1))
        await asyncio.sleep(pause)
        calling.cancel()
        await asyncio.wait({calling})
    assert await call(pool, functions.add, 1) == 1
    child = await call(pool, functions.pid)
    await pool.aclose()
    assert not alive(child)
    await asyncio.sleep(0)
    gc.collect()  # a pipe that was left open would warn, and a warning fails
    assert len(os.listdir("/proc/self/fd")) <= before  # what other tests left may be gone by now


async def test_closing_waits_for_calls_and_then_refuses_more(tmp_path: Path) -> None:
    pool = ProcessPool(1)
    mine, other = tmp_path / "mine", tmp_path / "other"
    meeting = asyncio.create_task(call(pool, functions.meet, str(mine), str(other)))
    await asyncio.to_thread(wait_until, mine.exists, 20)
    closing = asyncio.create_task(pool.aclose())
    late = asyncio.create_task(call(pool, functions.add, 1))
    await asyncio.sleep(0.05)
    assert not closing.done()
    other.touch()
    await closing
    assert await meeting is True
    with pytest.raises(SchedulerStateError, match="closed"):
        await late


async def test_closing_with_kill_ends_a_call_at_once(tmp_path: Path) -> None:
    pool = ProcessPool(1)
    told = tmp_path / "pid"
    hanging = asyncio.create_task(call(pool, functions.tell_and_hang, str(told)))
    await asyncio.to_thread(wait_until, lambda: told.exists() and told.read_text(), 20)
    await pool.aclose(kill=True)
    assert not alive(int(told.read_text()))
    with pytest.raises(TaskFailedError, match="signal 9"):
        await hanging


def test_only_functions_of_a_module_can_run_in_a_child() -> None:
    def closure() -> None: ...

    for function in (lambda: 1, closure, partial(functions.add, 1), "text".upper, str.upper):
        with pytest.raises(InvalidInputError, match="process pool"):
            target_of(function)


async def test_nothing_is_left_of_a_closed_pool() -> None:
    before = set(os.listdir("/proc/self/fd"))
    pool = ProcessPool(2)
    children = await asyncio.gather(call(pool, functions.pid), call(pool, functions.pid))
    await pool.aclose()
    await asyncio.sleep(0)
    assert not any(alive(child) for child in children)
    left = set(os.listdir("/proc/self/fd")) - before
    assert len(left) <= 1  # the listing's own


def test_children_end_with_a_killed_parent_even_in_the_middle_of_a_task(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"""
import asyncio
from redsched.codec.values import pack_payload
from redsched.worker.executors.processes import ProcessPool, target_of
from tests.worker import functions
async def main():
    await ProcessPool(1).run(target_of(functions.tell_and_hang), pack_payload([{str(told)!r}], {{}}))
asyncio.run(main())
"""],
        cwd=ROOT,
    )  # fmt: skip
    wait_until(lambda: told.exists() and told.read_text(), 20)
    child = int(told.read_text())
    assert alive(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(child))


def test_functions_of_a_script_run_in_a_child_too(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("""
import asyncio, os
from redsched.codec.values import pack_payload, unpack_result
from redsched.worker.executors.processes import ProcessPool, target_of

def where():
    return os.getpid()

async def main():
    pool = ProcessPool(1)
    result = unpack_result(await pool.run(target_of(where), pack_payload([], {})))
    await pool.aclose()
    print("elsewhere" if result != os.getpid() else "here")

if __name__ == "__main__":
    asyncio.run(main())
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "elsewhere\n"


async def test_a_job_of_the_process_pool_that_takes_too_long_is_killed(redsched_kit: Kit, tmp_path: Path) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    told = tmp_path / "pid"
    handle = await scheduler.schedule_immediate_task(
        "hang", functions.tell_and_hang, args=[str(told)], executor="processpool", timeout=2
    )
    result = await handle.result(timeout=20)
    assert (result.outcome, result.reason, result.error_type) == ("dead", "timeout", "TaskTimeoutError")
    assert not alive(int(told.read_text()))
    handle = await scheduler.schedule_immediate_task("add", functions.add, args=[1, 2], executor="processpool")
    assert (await handle.result(timeout=20)).result == 3


async def test_a_task_in_a_child_knows_its_run(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    handle = await scheduler.schedule_immediate_task(
        "tell", functions.tell_run, executor="processpool", timezone="Europe/Berlin", tags=["a", "b"], timeout=30
    )
    told = (await handle.result(timeout=20)).result
    job_id = run_id = handle.id
    assert (told["job_id"], told["run_id"], told["name"], told["task"]) == (
        job_id, run_id, "tell", "tests.worker.functions.tell_run",
    )  # fmt: skip
    assert (told["queue"], told["attempt"], told["tags"], told["worker"]) == ("default", 1, ["a", "b"], scheduler.id)
    assert (told["zone"], told["fire_time"].utcoffset() in (timedelta(hours=1), timedelta(hours=2))) == (
        "Europe/Berlin", True,
    )  # fmt: skip
    assert timedelta(seconds=0) < told["deadline"] - await redsched_kit.now() <= timedelta(seconds=30)
    assert (told["pid"] != os.getpid(), told["fencing_token"] > 0) == (True, True)


async def test_a_call_in_a_child_feels_nothing_of_the_one_before_it(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    tokens: set[int] = set()
    for _ in range(3):
        handle = await scheduler.schedule_immediate_task("tell", functions.tell_run, executor="processpool")
        told = (await handle.result(timeout=20)).result
        assert (told["job_id"], told["deadline"], told["left"]) == (handle.id, None, "nothing")
        tokens.add(told["fencing_token"])
    assert len(tokens) == 3


async def test_a_child_knows_of_a_further_attempt(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    handle = await scheduler.schedule_immediate_task(
        "attempt", functions.tell_attempt, executor="processpool",
        retry=RetryPolicy(max_attempts=2, initial_delay=0.01, jitter=0),
    )  # fmt: skip
    assert (await handle.result(timeout=20)).result == 2


async def test_progress_cannot_be_reported_from_a_child(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    handle = await scheduler.schedule_immediate_task("report", functions.report, executor="processpool")
    result = await handle.result(timeout=20)
    assert (result.outcome, result.error_type) == ("dead", "SchedulerStateError")
    assert "cannot report progress" in (result.error or "")


async def test_a_call_without_a_run_has_none(pool: ProcessPool) -> None:
    assert await call(pool, functions.has_run) is False
