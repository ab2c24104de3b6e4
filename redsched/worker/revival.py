"""A worker that ends by a mistake says so, and another takes its place: a service must not stand there without one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redsched.errors import InvalidConfigError, StoreAccessError

if TYPE_CHECKING:
    from redsched.worker.worker import Worker

__all__ = ["serve_on"]

log = logging.getLogger("redsched.worker")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LOOK_EVERY_S = 0.05
_FINAL = (StoreAccessError, InvalidConfigError)
"""Errors that would end another worker as well, until the cause is fixed."""


async def serve_on(current: Callable[[], Worker], renew: Callable[[], None], ready: Any) -> None:
    """Let the current worker serve; where it ends with an error, log that, pause, and go on with a new one.

    What ends it before it is ready, what no restart mends, and what is to end the process is raised.

    Args:
        current: the worker.
        renew: makes another one the current worker.
        ready: called when the first one is ready, as anyio's `task_status`.
    """
    pause = FIRST_PAUSE_S
    while True:
        worker, began = current(), time.monotonic()
        try:
            await worker.serve(task_status=ready)
        except Exception as error:
            if not ready.is_told or _is_final(error):
                raise
            if time.monotonic() - began > 2 * LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            worker.fail(error)
            log.exception("the worker %s ended with an error, and is started again in %g s", worker.id, pause)
        else:
            return
        until = time.monotonic() + pause
        while time.monotonic() < until and not worker.stopping:  # noqa: ASYNC110  a stop only sets a flag
            await asyncio.sleep(LOOK_EVERY_S)
        if worker.stopping:
            return
        pause = min(2 * pause, LONGEST_PAUSE_S)
        renew()


def _is_final(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_final, error.exceptions))
    return isinstance(error, _FINAL)
