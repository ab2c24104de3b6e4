"""`redsched worker`: one process that starts, serves, outlives Redis, and drains."""

from __future__ import annotations

import asyncio
import json
import signal

from redsched import BackgroundTaskScheduler, testing
from redsched.cli.exits import ExitCode
from redsched.testing import Kit
from tests.servers import LocalServer

from .harness import Start

TARGET = "shop_app:scheduler"


async def _task() -> None: ...


async def schedule(kit: Kit, task: str, job_id: str, queue: str = "default") -> None:
    """A job of a task that only the app has."""

    async def stand_in() -> None: ...

    if kit.scheduler.registry.find(task) is None:
        kit.scheduler.register(stand_in, name=task)
    function = kit.scheduler.registry.find(task)
    assert function is not None
    await kit.scheduler.schedule_immediate_task(task, function.function, job_id=job_id, queue=queue)


async def test_it_says_who_it_is_serves_and_ends_with_0(redsched_kit: Kit, start: Start) -> None:
    worker = await start("worker", "shop_app:make", "-q", "urgent", "-q", "default", "--concurrency", "7")
    line = await worker.says("serves urgent, default")
    assert "3 tasks, 7 runs at once" in line
    await worker.says(f"prefix '{redsched_kit.scheduler.prefix}'")
    await schedule(redsched_kit, "quick", "a", queue="urgent")
    await redsched_kit.wait_for("done", "a")
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == ExitCode.OK
    assert not any("quick" in text for text in worker.lines), "a run that succeeds is not worth a line"
    assert await redsched_kit.scheduler.get_workers() == {}


async def test_a_run_in_flight_finishes_after_sigterm(redsched_kit: Kit, start: Start, app_folder) -> None:
    worker = await start("worker", TARGET)
    await schedule(redsched_kit, "gated", "g")
    await worker.says("gated has begun")
    worker.signal(signal.SIGTERM)
    await worker.says("stopping: 1 run has")
    await schedule(redsched_kit, "quick", "too late")
    (app_folder / "gate").touch()
    await redsched_kit.wait_for("done", "g")
    assert await worker.ends() == ExitCode.OK
    assert await redsched_kit.scheduler.get_job("too late") is not None


async def test_what_does_not_finish_in_the_grace_time_is_given_back(redsched_kit: Kit, start: Start) -> None:
    worker = await start("worker", TARGET, "--grace", "0.1")
    await schedule(redsched_kit, "gated", "g")
    await worker.says("gated has begun")
    worker.signal(signal.SIGINT)
    await redsched_kit.wait_for("released", "g")
    assert await worker.ends() == ExitCode.OK


async def test_a_second_signal_gives_runs_back_and_another_worker_starts_them(redsched_kit: Kit, start: Start) -> None:
    worker = await start("worker", TARGET, "--grace", "60")
    await schedule(redsched_kit, "gated", "g")
    await worker.says("gated has begun")
    worker.signal(signal.SIGTERM)
    await worker.says("stopping: 1 run has")
    worker.signal(signal.SIGTERM)
    await redsched_kit.wait_for("released", "g")
    assert await worker.ends(timeout=5) == ExitCode.OK
    await start("worker", TARGET)
    await redsched_kit.wait_for("claimed", "g", count=2)  # its lease would have lasted for 30 s


async def test_a_thread_that_cannot_be_stopped_does_not_keep_it(redsched_kit: Kit, start: Start) -> None:
    worker = await start("worker", TARGET, "--grace", "0")
    await schedule(redsched_kit, "blocked", "b")
    await worker.says("blocked has begun")
    worker.signal(signal.SIGTERM)
    assert await worker.ends(timeout=10) == ExitCode.OK
    await redsched_kit.wait_for("released", "b")


async def test_it_goes_on_after_redis_was_killed_and_started_again(own_redis: LocalServer, start: Start) -> None:
    scheduler = BackgroundTaskScheduler(own_redis.url, testing.fresh_prefix(), declared_tasks=False)
    async with testing.kit(scheduler, clean=False) as kit:
        worker = await start("worker", TARGET, APP_REDIS=own_redis.url, APP_PREFIX=scheduler.prefix)
        await schedule(kit, "quick", "before")
        await kit.wait_for("done", "before")
        await asyncio.to_thread(own_redis.kill)
        await worker.says("sending again")
        await asyncio.to_thread(own_redis.start)
        await worker.says("answers again")
        await schedule(kit, "quick", "after")
        await kit.wait_for("done", "after")
        worker.signal(signal.SIGTERM)
        assert await worker.ends() == ExitCode.OK


async def test_it_waits_for_a_redis_that_is_not_there_yet(own_redis: LocalServer, start: Start) -> None:
    own_redis.kill()
    worker = await start("worker", TARGET, APP_REDIS=own_redis.url)
    await worker.says("waiting for it, next try in 1 s")
    await asyncio.to_thread(own_redis.start)
    await worker.says("serves default")
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == ExitCode.OK


async def test_it_can_be_stopped_while_it_waits_for_redis(own_redis: LocalServer, start: Start) -> None:
    own_redis.kill()
    worker = await start("worker", TARGET, APP_REDIS=own_redis.url)
    await worker.says("waiting for it")
    worker.signal(signal.SIGTERM)
    assert await worker.ends(timeout=5) == ExitCode.OK


async def test_a_wrong_password_ends_it_at_once(start: Start) -> None:
    with LocalServer("--requirepass", "right") as server:
        worker = await start("worker", TARGET, APP_REDIS=server.url.replace("//", "//:wrong-secret@"))
        assert await worker.ends() == ExitCode.REFUSED
    assert "refused the user" in worker.lines[-1]
    assert "secret" not in "\n".join(worker.lines)


async def test_a_wrong_target_ends_it_at_once(start: Start) -> None:
    worker = await start("worker", "shop_app:schedular")
    assert await worker.ends() == ExitCode.USAGE
    assert "its schedulers are: scheduler" in worker.lines[-1]


async def test_a_wrong_queue_ends_it_at_once(start: Start) -> None:
    worker = await start("worker", TARGET, "--queue", "")
    assert await worker.ends() == ExitCode.USAGE


async def test_the_place_of_the_command_line_beats_that_of_the_scheduler(redsched_kit: Kit, start: Start) -> None:
    scheduler = redsched_kit.scheduler
    place = ("--url", scheduler.redis_url, "--prefix", scheduler.prefix)
    env = {"APP_REDIS": "redis://127.0.0.1:1", "REDSCHED_URL": "redis://127.0.0.1:2"}
    worker = await start("worker", TARGET, *place, APP_PREFIX="other", **env)
    await schedule(redsched_kit, "quick", "a")
    await redsched_kit.wait_for("done", "a")
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == ExitCode.OK


async def test_a_json_log_has_one_object_a_line(redsched_kit: Kit, start: Start) -> None:
    worker = await start("worker", TARGET, "--log-format", "json", "--no-uvloop", "--log-level", "debug")
    await worker.says("serves default")
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == ExitCode.OK
    entries = [json.loads(line) for line in worker.lines]
    assert {"time", "level", "logger", "message", "pid"} <= set(entries[0])
    assert entries[-1]["message"] == "stopped"
