"""Reasons, needs and texts for a job that this worker cannot read or run."""

from __future__ import annotations

from collections.abc import Sequence

from redsched.errors import RecordVersionError, TaskFailedError, UnknownKeyError, UntrustedRecordError
from redsched.jobs.record import Job
from redsched.model import Reason
from redsched.worker.agreement import BegunBeforeError

__all__ = [
    "FOR_OTHERS", "clean", "failure_of", "need_of", "no_executor", "no_key", "postponement_ms", "reason_of",
    "shortened", "text_of",
]  # fmt: skip

UNKNOWN_FIRST_MS, UNKNOWN_LONGEST_MS = 200, 300_000
ERROR_LENGTH = 1000
EVENT_ERROR_BYTES = 500
"""Of an error in an event: a stream of 10,000 entries may hold 2,500,000 of them."""
FOR_OTHERS = (RecordVersionError, UnknownKeyError)
"""What this worker cannot read, but a newer one, or one with more keys, can."""


def no_key(job: Job) -> UnknownKeyError:
    """The error for a job that is encrypted."""
    key = job.record.label[1:].hex()
    return UnknownKeyError(f"job {job.id!r} is encrypted, and this worker has no payload_security", key=key)


def need_of(error: Exception) -> str | None:
    """The need of a worker that could read it, in the form of `redsched.worker.places`; None if it is not known."""
    if isinstance(error, RecordVersionError):
        return None if error.version is None else f"record:{error.version}"
    return f"key:{error.key}" if isinstance(error, UnknownKeyError) and error.key else None


def reason_of(error: BaseException) -> Reason:
    """The word for what kept a record from being read."""
    if isinstance(error, BegunBeforeError):
        return Reason.AT_MOST_ONCE
    return Reason.UNTRUSTED if isinstance(error, UntrustedRecordError) else Reason.UNREADABLE


def clean(text: str) -> str:
    """A text in a form that Redis can keep: not too long, and without lone surrogates (from odd file names)."""
    return text[:ERROR_LENGTH].encode("utf-8", "replace").decode()


def shortened(text: str) -> str:
    """An error as the events keep it: its beginning."""
    data = text.encode("utf-8", "replace")
    if len(data) <= EVENT_ERROR_BYTES:
        return text
    return data[: EVENT_ERROR_BYTES - 3].decode("utf-8", "ignore") + "…"


def text_of(error: BaseException) -> str:
    """The stored text of an error. Its `__str__` is the application's code too, and may raise."""
    kind = error.error_type if isinstance(error, TaskFailedError) else type(error).__name__
    try:
        return clean(f"{kind}: {error}")
    except BaseException as problem:  # SystemExit, GeneratorExit and CancelledError are as little of ours
        return f"{kind}: (its text cannot be had: {type(problem).__name__})"


def failure_of(error: BaseException | None) -> str:
    """The text of the unexpected error that ends a worker; empty if it or its process is stopped."""
    while isinstance(error, BaseExceptionGroup):
        inner: Sequence[BaseException] = error.exceptions
        error = next((one for one in inner if isinstance(one, Exception)), inner[0])
    return text_of(error) if isinstance(error, Exception) else ""


def postponement_ms(times: int) -> int:
    """How long to postpone it: longer each time, so that no worker spins."""
    return min(UNKNOWN_LONGEST_MS, UNKNOWN_FIRST_MS * 2 ** min(times, 16))


def no_executor(worker: str, job: Job) -> str:
    """Why a job is left to others whose executor is not here."""
    return f"worker {worker} has no executor {job.options.executor!r}"
