"""JSON logs carry job, run, task, attempt, worker and reason: redsched's lines, and those that tasks write."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from pathlib import Path
from typing import Any

import pytest

from redsched import Event, RetryPolicy, TaskFailureHandler, current_run
from redsched.cli.exits import ExitCode
from redsched.logs.formats import JsonFormatter, RunFields, TextFormatter
from redsched.testing import Kit

from .harness import Start

log = logging.getLogger("shop")
FIELDS = {"job", "run", "task", "attempt", "worker"}


class Lines(logging.Handler):
    """What a JSON log holds."""

    def __init__(self, logger: str = "") -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.entries: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entries.append(json.loads(self.format(record)))

    def one(self, part: str) -> dict[str, Any]:
        [entry] = [entry for entry in self.entries if part in entry["message"]]
        return entry


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO)
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


async def in_a_coroutine() -> None:
    log.info("written", extra={"order": 7})


def in_a_thread() -> None:
    log.info("written", extra={"order": 7})


async def in_a_task_of_a_task() -> None:
    await asyncio.create_task(in_a_coroutine())


@pytest.mark.parametrize("task", [in_a_coroutine, in_a_thread, in_a_task_of_a_task])
async def test_the_lines_of_a_task_say_which_run_they_are_of(redsched_kit: Kit, lines: Lines, task: Any) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("job", task, job_id="order-7")
    await redsched_kit.run_due()
    entry = lines.one("written")
    [done] = [event for event in await redsched_kit.scheduler.get_history("order-7") if event.kind == "done"]
    assert (entry["job"], entry["run"], entry["worker"]) == ("order-7", done.run_id, done.worker)
    assert (entry["task"], entry["attempt"], entry["order"]) == (done.task, 1, 7)
    assert "reason" not in entry


async def test_what_the_line_itself_says_stays(redsched_kit: Kit, lines: Lines) -> None:
    async def bake() -> None:
        log.info("written", extra={"task": "my own", "worker": None})

    await redsched_kit.scheduler.schedule_immediate_task("job", bake, job_id="order-7")
    await redsched_kit.run_due()
    assert (lines.one("written")["task"], lines.one("written")["worker"]) == ("my own", None)
    assert lines.one("written")["job"] == "order-7"


async def test_a_line_outside_of_a_run_has_no_fields(redsched_kit: Kit, lines: Lines) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("job", in_a_coroutine)
    await redsched_kit.run_due()
    log.info("after it")
    assert not FIELDS & lines.one("after it").keys()


async def fails() -> None:
    raise ValueError("no basil")


async def test_each_attempt_that_failed_is_logged_with_its_fields_and_reason(redsched_kit: Kit, lines: Lines) -> None:
    retry = RetryPolicy(max_attempts=2, initial_delay=1)
    await redsched_kit.scheduler.schedule_immediate_task("job", fails, job_id="j", retry=retry)
    await redsched_kit.advance(minutes=1)
    again, dead = (entry for entry in lines.entries if "failed" in entry["message"])
    assert (again["job"], again["attempt"], again["reason"]) == ("j", 1, "task_failed")
    assert (dead["job"], dead["attempt"], dead["reason"]) == ("j", 2, "attempts_used_up")
    assert again["run"] == dead["run"]
    assert again.keys() >= FIELDS
    assert dead.keys() >= FIELDS


async def test_records_carry_the_fields_for_any_formatter(redsched_kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("job", fails, job_id="j")
    await redsched_kit.run_due()
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert vars(record).keys() >= {*FIELDS, "reason"}


async def test_a_filter_gives_the_fields_to_handlers_of_the_applications(redsched_kit: Kit) -> None:
    records: list[logging.LogRecord] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keeps()
    handler.addFilter(RunFields())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        await redsched_kit.scheduler.schedule_immediate_task("job", in_a_thread, job_id="j")
        await redsched_kit.run_due()
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert [vars(record)["job"] for record in records] == ["j"]


async def test_a_handler_that_raises_is_logged_with_the_run(redsched_kit: Kit, lines: Lines) -> None:
    class Alert(TaskFailureHandler):
        async def handle_task_failure(self, task_name: str, exception: Exception, context: dict[str, Any]) -> None:
            log.info("written")
            raise KeyError("no address")

    redsched_kit.scheduler.add_failure_handler(Alert())
    await redsched_kit.scheduler.schedule_immediate_task("job", fails, job_id="j")
    await redsched_kit.run_due()
    await redsched_kit.wait_for("dead", "j")
    await redsched_kit.scheduler.shutdown()
    assert lines.one("written")["job"] == lines.one("the handler")["job"] == "j"
    assert lines.one("the handler").keys() >= FIELDS


async def test_a_listener_that_raises_is_logged_with_the_job_of_the_event(redsched_kit: Kit, lines: Lines) -> None:
    def listener(event: Event) -> None:
        raise KeyError("no address")

    redsched_kit.scheduler.add_listener(listener, kinds=["dead"])
    await redsched_kit.scheduler.schedule_immediate_task("job", fails, job_id="j")
    await redsched_kit.run_due()
    await redsched_kit.wait_for("dead", "j")
    entry = lines.one("the listener")
    assert (entry["job"], entry["reason"], entry["attempt"]) == ("j", "task_failed", 1)
    assert 'tests/cli/test_log_fields.py", line' in entry["traceback"].splitlines()[1]


async def test_a_run_that_is_cancelled_says_why(redsched_kit: Kit, lines: Lines) -> None:
    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.info("cleaning up")

    scheduler = redsched_kit.scheduler
    await scheduler.start()
    handle = await scheduler.schedule_immediate_task("job", waits, job_id="j")
    await redsched_kit.wait_for("claimed", "j")
    await asyncio.sleep(0.05)
    await handle.cancel()
    await redsched_kit.wait_for("cancelled", "j")
    assert lines.one("cleaning up")["reason"] == "cancelled"


async def test_a_run_that_no_worker_can_execute_says_why(
    redsched_kit: Kit, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("job", in_a_coroutine, job_id="j")
    monkeypatch.setattr(redsched_kit.scheduler.registry, "find", lambda _: None)
    await redsched_kit.run_due()
    entry = lines.one("its runs are put off")
    assert (entry["job"], entry["reason"]) == ("j", "unknown_task")
    assert entry.keys() >= FIELDS


async def test_a_run_whose_lease_ended_says_why(redsched_kit: Kit, lines: Lines) -> None:
    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.info("cleaning up")

    await redsched_kit.scheduler.start()
    await redsched_kit.scheduler.schedule_immediate_task("job", waits, job_id="j")
    await redsched_kit.wait_for("claimed", "j")
    await asyncio.sleep(0.05)
    worker = redsched_kit.scheduler.worker
    assert worker is not None
    [run_id] = worker.loops[0].held
    worker.loops[0].execution.stop(run_id, "lost")
    await asyncio.sleep(0.05)
    entry = lines.one("the lease on run")
    assert (entry["job"], entry["run"], entry["reason"]) == ("j", run_id, "lease_expired")
    assert lines.one("cleaning up")["reason"] == "lease_expired"


def test_the_text_log_names_the_job_of_a_tasks_line() -> None:
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "baked", (), None)
    record.job = "order-7"
    assert TextFormatter().format(record).endswith("shop [order-7]: baked")
    record.name = "redsched.worker"
    assert TextFormatter().format(record).endswith(" baked")


POOL = """
import logging, os
import redsched

scheduler = redsched.BackgroundTaskScheduler(os.environ["APP_REDIS"], os.environ["APP_PREFIX"], declared_tasks=False)

@redsched.schedule_task(name="bakes")
def bakes():
    logging.getLogger("shop").info("baking")
    raise ValueError("no basil")

@redsched.schedule_task(name="bakes too")
async def bakes_too():
    logging.getLogger("shop").info("baking")
"""


@pytest.mark.parametrize("task", ["bakes", "bakes too"])
async def test_a_child_process_logs_as_its_worker_does_with_the_fields(
    redsched_kit: Kit, start: Start, app_folder: Path, task: str
) -> None:
    (app_folder / "pool_app.py").write_text(POOL)

    async def stand_in() -> None: ...

    redsched_kit.scheduler.register(stand_in, name=task)
    handle = await redsched_kit.scheduler.schedule_immediate_task(task, stand_in, job_id="j", executor="processpool")
    worker = await start("worker", "pool_app:scheduler", "--log-format", "json")
    event = await redsched_kit.wait_for("dead" if task == "bakes" else "done", "j")
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == ExitCode.OK
    entries = [json.loads(line) for line in worker.lines]
    [baking] = [entry for entry in entries if entry["message"] == "baking"]
    assert (baking["job"], baking["run"], baking["worker"]) == (handle.id, event.run_id, event.worker)
    assert (baking["task"], baking["attempt"], baking["logger"]) == (task, 1, "shop")
    assert baking["pid"] != entries[0]["pid"]
    if task == "bakes":
        [failed] = [entry for entry in entries if "no basil" in entry["message"]]
        assert 'pool_app.py", line' in failed["traceback"].splitlines()[1]
        assert failed["traceback"].endswith("ValueError: no basil")


async def test_without_a_log_nothing_is_looked_up(redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    from redsched.logs import formats as logs
    from redsched.worker.runs import Run

    def forbidden(*_: object) -> dict[str, Any]:
        raise AssertionError("looked up though nothing is logged")

    monkeypatch.setattr(logs, "run_fields", forbidden)
    monkeypatch.setattr(Run, "log_fields", forbidden)

    async def bake() -> int:
        return current_run().attempt

    handle = await redsched_kit.scheduler.schedule_immediate_task("job", bake)
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == 1
