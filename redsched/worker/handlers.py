"""`TaskFailureHandler`: called when runs end, in the process that ran them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from redsched.codec.values import unpack_payload
from redsched.context import run_fields
from redsched.errors import InvalidInputError
from redsched.runtime import forks
from redsched.tasks.signatures import signature_of
from redsched.worker.current import CurrentRun
from redsched.worker.runs import Run
from redsched.worker.tracebacks import log_error

__all__ = ["Handlers", "TaskFailureHandler"]

log = logging.getLogger("redsched.handlers")

TIMEOUT_S = 30.0
"""A handler that takes longer is cancelled."""
MAX_CALLS = 1000
"""Maximum number of pending calls. Further calls are skipped with a warning: hanging handlers must not fill memory."""


class TaskFailureHandler:
    """Called when a run of this process's worker ends: `scheduler.add_failure_handler(handler)`.

    Override one or both methods. They are called outside of the run, after its outcome is decided. Their exceptions
    are logged, and a call that takes longer than 30 seconds is cancelled. They are not called for a run that ends
    without its worker (its lease expired, it was missed): use `BackgroundTaskScheduler.add_listener` for these.

    `context` has job_id, task (its path), queue, tags, fire_time (aware), attempt, retry_count (previous attempts),
    execution_time (seconds), will_retry, args, kwargs, and each argument by the name of the task's parameter, such as
    `order_id` (the specification, "Comprehensive Error Monitoring").

    >>> class Alert(TaskFailureHandler):
    ...     async def handle_task_failure(self, task_name, exception, context):
    ...         if not context["will_retry"]:
    ...             print(f"{task_name} of order {context.get('order_id')} failed: {exception}")
    """

    async def handle_task_failure(self, task_name: str, exception: Exception, context: dict[str, Any]) -> None:
        """An attempt of a run failed. `task_name` is the job's name."""

    async def handle_task_success(self, task_name: str, result: Any, context: dict[str, Any]) -> None:
        """A run's task returned. `task_name` is the job's name."""


class Handlers:
    """The handlers of a scheduler, and their pending calls."""

    def __init__(self) -> None:
        self._handlers: list[TaskFailureHandler] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._full = False
        forks.register(self)

    def after_fork(self) -> None:
        """The pending calls belong to the parent."""
        forks.keep_for_ever(self._calls)
        self._calls = set()

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def add(self, handler: TaskFailureHandler) -> None:
        """Call this handler from now on.

        Raises:
            InvalidInputError: it is not a TaskFailureHandler.
        """
        if not isinstance(handler, TaskFailureHandler):
            raise InvalidInputError(
                f"handler is {handler!r}; pass an instance of a subclass of TaskFailureHandler", field="handler"
            )
        self._handlers.append(handler)

    def remove(self, handler: TaskFailureHandler) -> None:
        """Stop calling this handler."""
        self._handlers = [known for known in self._handlers if known is not handler]

    def failed(self, run: Run, error: BaseException, execution_time: float, *, will_retry: bool) -> None:
        """An attempt failed."""
        self._tell("handle_task_failure", run, error, execution_time, will_retry=will_retry)

    def succeeded(self, run: Run, result: Any, execution_time: float) -> None:
        """A task returned."""
        self._tell("handle_task_success", run, result, execution_time, will_retry=False)

    def _tell(self, method: str, run: Run, value: Any, execution_time: float, *, will_retry: bool) -> None:
        if len(self._calls) >= MAX_CALLS:
            if not self._full:
                log.warning("%d calls of task handlers are pending: further calls are skipped", MAX_CALLS)
            self._full = True
            return
        self._full = False
        context = _context(run, execution_time, will_retry=will_retry)
        for handler in self._handlers:
            call = asyncio.create_task(self._call(getattr(handler, method), run.job.record.name, value, context))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, method: Callable[..., Any], name: str, value: Any, context: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                outcome = method(name, value, dict(context))
                if inspect.isawaitable(outcome):
                    await outcome
        except TimeoutError:
            log.error("the handler %r took longer than %g s for %r", method, TIMEOUT_S, name, exc_info=True,
                      extra=run_fields())  # fmt: skip
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a SystemExit would end the event loop
            log_error(error, "the handler %r raised for %r", method, name, to=log, extra=run_fields())

    async def drain(self, seconds: float) -> None:
        """Let pending calls finish. Those that do not within that many seconds are cancelled."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=seconds)
            for call in late:
                call.cancel()


def _context(run: Run, execution_time: float, *, will_retry: bool) -> dict[str, Any]:
    about = CurrentRun(run)
    args, kwargs = _arguments(run)
    return {
        **_named(run, args, kwargs),
        "job_id": about.job_id,
        "task": run.job.record.task,
        "queue": run.queue,
        "tags": run.job.tags,
        "fire_time": about.fire_time,
        "attempt": run.attempt,
        "retry_count": run.attempt - 1,
        "execution_time": execution_time,
        "will_retry": will_retry,
        "args": args,
        "kwargs": kwargs,
    }


def _arguments(run: Run) -> tuple[list[Any], Mapping[str, Any]]:
    try:
        return unpack_payload(run.job.record.payload)
    except ValueError:  # they cannot be decoded, which is why the run failed
        return [], {}


def _named(run: Run, args: list[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments by the names of the task's parameters."""
    try:
        assert run.task is not None
        bound = signature_of(run.task.function).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):  # they do not fit the function, or it has no signature
        return kwargs
    named = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:  # the arguments in `**options` already have names
            named |= named.pop(parameter.name, {})
    return named
