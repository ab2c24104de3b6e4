"""The run's context as plain data, for the child of the process pool that executes the run."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import msgpack

from redsched.errors import SchedulerStateError
from redsched.model import RunContext
from redsched.schedules.zones import zone
from redsched.store.clock import from_ms, to_ms
from redsched.worker.current import CurrentRun

__all__ = ["ToldRun", "pack_context", "unpack_context"]


def pack_context(context: RunContext, timezone: str) -> bytes:
    """As it goes over the pipe.

    Args:
        timezone: of the job, by name: an offset alone would not say it.
    """
    deadline = None if context.deadline is None else to_ms(context.deadline)
    fields = {field.name: getattr(context, field.name) for field in dataclasses.fields(context)}
    fields.update(fire_time=[to_ms(context.fire_time), timezone], deadline=deadline)
    return msgpack.packb(fields, unicode_errors="surrogateescape") or b""


def unpack_context(data: bytes) -> RunContext:
    """Decode a context that `pack_context` encoded."""
    fields: dict[str, Any] = msgpack.unpackb(data, unicode_errors="surrogateescape")
    fire_ms, timezone = fields["fire_time"]
    deadline = None if fields["deadline"] is None else from_ms(fields["deadline"])
    fields.update(fire_time=from_ms(fire_ms, zone(timezone)), deadline=deadline, tags=tuple(fields["tags"]))
    return RunContext(**fields)


class ToldRun(CurrentRun):
    """The run of a task in a child process, as its worker knew it when it called."""

    __slots__ = ("_context",)

    def __init__(self, context: RunContext) -> None:
        self._context = context

    @property
    def context(self) -> RunContext:
        return self._context

    @property
    def worker_id(self) -> str:
        """The id of the worker that holds the run."""
        return self._context.worker

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of a log line about the run."""
        context = self._context
        return {
            "job": context.job_id,
            "run": context.run_id,
            "task": context.task,
            "attempt": context.attempt,
            "worker": context.worker,
        }

    @property
    def job_id(self) -> str:
        return self._context.job_id

    @property
    def fire_time(self) -> datetime:
        return self._context.fire_time

    @property
    def attempt(self) -> int:
        return self._context.attempt

    @property
    def fencing_token(self) -> int:
        return self._context.fencing_token

    @property
    def state(self) -> Any:
        """Refuse: the state belongs to the worker's process.

        Raises:
            SchedulerStateError: always.
        """
        raise SchedulerStateError("a task in a child process has no state: its worker's process has it")

    async def report_progress(self, value: Any) -> None:
        """A child has no connection to Redis.

        Raises:
            SchedulerStateError: always.
        """
        raise SchedulerStateError("a task in a child process cannot report progress: run it in its worker's process")
