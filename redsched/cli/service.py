"""One worker process: waits for Redis, serves until it is asked to stop, and drains.

A service should survive any boot order of machines and every restart of Redis, so it does not end when Redis does not
answer. Waiting does not fix a wrong password or target: those end the process immediately, with their exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import json
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redsched import BackgroundTaskScheduler, InvalidConfigError, RedschedError, StoreAccessError, StoreError
from redsched.cli.exits import ExitCode, exit_code_of
from redsched.cli.stopping import Stop
from redsched.cli.target import load
from redsched.errors import StoreReadOnlyError, StoreUnavailableError
from redsched.logs.formats import LogFormat, setup

__all__ = ["Settings", "own_process", "run", "serve"]

log = logging.getLogger("redsched.cli.worker")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
LEAVE_S = 2.0
"""How long threads may delay the end of a stopped process."""

_process_is_ours = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `redsched worker`. None = the scheduler's setting."""

    target: str
    url: str | None = None
    prefix: str | None = None
    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    grace: float | None = None
    """Seconds."""
    log_format: LogFormat = "text"
    log_level: str = "info"
    uvloop: bool = True
    """Whether uvloop is used if it is installed."""
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"

    def to_json(self) -> bytes:
        """Encode as one line, for a child process."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, line: bytes) -> Settings:
        """Decode a line of `to_json`."""
        given: Any = json.loads(line)
        given["queues"] = tuple(given["queues"])
        return cls(**given)


def own_process() -> None:
    """Declare that this process belongs to the command line, which may end it."""
    global _process_is_ours
    _process_is_ours = True


def run(
    settings: Settings,
    *,
    ready: Callable[[float], None] | None = None,
    connect: Callable[[Stop], None] | None = None,
) -> int:
    """Serve in a new event loop. Returns the exit code.

    Args:
        ready: called with the grace time (seconds) whenever the worker has started.
        connect: called with the `Stop` of the loop instead of listening to signals.
    """
    setup(sys.stderr, form=settings.log_format, level=settings.log_level, process=connect is not None)

    async def main() -> int:
        stop = Stop()
        if connect is None:
            stop.listen()
        else:
            connect(stop)
        code = await serve(settings, stop, ready or (lambda grace: None))
        _leave_soon(code)
        return code

    with asyncio.Runner(loop_factory=_loop_factory(settings.uvloop)) as runner:
        return runner.run(main())


def _loop_factory(wanted: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not wanted:
        return None
    try:
        return importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None


def _leave_soon(code: int) -> None:
    """End a drained process even if a plain function, whose thread cannot be stopped, still runs.

    The function's run was given back and starts elsewhere, so this process should be gone soon.
    """
    if not _process_is_ours:
        return

    def leave() -> None:
        time.sleep(LEAVE_S)
        log.warning("plain functions are still running in threads; the process ends now")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    threading.Thread(target=leave, name="redsched leave", daemon=True).start()


async def serve(settings: Settings, stop: Stop, ready: Callable[[float], None]) -> int:
    """Load the target and serve it until a stop. Returns the exit code, and logs the reason if it is not 0."""
    try:
        scheduler = await load(settings.target)
        scheduler.configure(
            redis_url=settings.url,
            job_store_prefix=settings.prefix,
            queues=settings.queues or None,
            concurrency=settings.concurrency,
        )
        with _metrics(scheduler, settings):
            await _serve(scheduler, settings, stop, ready)
    except RedschedError as error:
        log.critical("%s", error)
        return exit_code_of(error)
    return ExitCode.OK


def _metrics(scheduler: BackgroundTaskScheduler, settings: Settings) -> AbstractContextManager[None]:
    if settings.metrics_port is None:
        return contextlib.nullcontext()
    try:
        from redsched.integrations import prometheus
    except ImportError as error:
        raise InvalidConfigError(f"--metrics-port: {error}", field="metrics_port") from None
    serving = prometheus.serve(scheduler, settings.metrics_port, settings.metrics_host)
    log.info("metrics are at http://%s:%d/metrics", settings.metrics_host, settings.metrics_port)
    return serving


async def _serve(
    scheduler: BackgroundTaskScheduler, settings: Settings, stop: Stop, ready: Callable[[float], None]
) -> None:
    grace = scheduler.shutdown_grace if settings.grace is None else settings.grace
    pause = FIRST_PAUSE_S
    while not stop.asked.is_set():
        trouble: RedschedError | None = None
        starting = asyncio.create_task(scheduler.start())
        if await stop.before(starting):
            starting.cancel()
            await asyncio.wait((starting,))
            return
        try:
            starting.result()
        except (StoreUnavailableError, StoreReadOnlyError) as error:
            trouble = error
        else:
            ready(grace)
            stalls = scheduler.worker.stalls if scheduler.worker is not None else None
            stop.heard = None if stalls is None else stalls.note_signal
            await _announce(scheduler)
            pause = FIRST_PAUSE_S
            trouble = await _until_stopped(scheduler, grace, stop)
        if trouble is not None:
            log.warning("%s; waiting for it, next try in %g s", trouble, pause)
            await stop.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


async def _until_stopped(scheduler: BackgroundTaskScheduler, grace: float, stop: Stop) -> RedschedError | None:
    """Serve until a stop. Returns the error that ended the worker, if it ended by itself and may be started again."""
    serving = asyncio.create_task(scheduler.wait_until_stopped())
    if await stop.before(serving):
        await _drain(scheduler, grace, stop)
        serving.cancel()
        await asyncio.wait((serving,))
        return None
    error = serving.exception()
    with contextlib.suppress(RedschedError):
        await scheduler.shutdown(wait=False)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, StoreError) and not isinstance(error, StoreAccessError):
        return error
    if error is not None:
        raise error
    log.warning("the application shut down its scheduler: the worker ends")
    stop.ask()
    return None


async def _announce(scheduler: BackgroundTaskScheduler) -> None:
    worker = scheduler.worker
    if worker is None:
        return
    description = worker.describe()
    where = scheduler.redis_url
    if not where.lower().startswith("embedded:"):
        where = (await scheduler.store()).link.where  # the URL without its password
    tasks = len(description["tasks"])
    log.info(
        "worker %s on %s serves %s: %d task%s, %d runs at once",
        worker.id,
        platform.node(),
        ", ".join(description["queues"]),
        tasks,
        "" if tasks == 1 else "s",
        worker.concurrency,
    )
    log.info("Redis is %s, prefix %r", where, scheduler.prefix)


async def _drain(scheduler: BackgroundTaskScheduler, grace: float, stop: Stop) -> None:
    worker = scheduler.worker
    held = worker.capacity.holding if worker is not None else 0
    if worker is not None and worker.stalls is not None:
        worker.stalls.tell_lateness(*(stop.came or ("the stop request", time.monotonic())))
    if held:
        runs = "1 run has" if held == 1 else f"{held} runs have"
        log.info("stopping: %s %g s to finish; a second signal gives the rest back", runs, grace)
    else:
        log.info("stopping: no active runs")
    closing = asyncio.create_task(scheduler.shutdown(grace=grace))
    if await stop.urged_before(closing):
        if worker is not None:
            log.warning("stopping immediately: runs are cancelled and given back (%d)", worker.capacity.holding)
            await worker.stop(grace=0)
        await closing
    closing.result()
    log.info("stopped")
