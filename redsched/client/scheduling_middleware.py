"""Functions that see each job before it is checked and stored, and may change or refuse it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from redsched.errors import InvalidInputError
from redsched.jobs.spec import JobSpec

__all__ = ["SchedulingMiddleware", "changed"]


class SchedulingMiddleware(Protocol):
    """A coroutine function that sees each job before it is stored, for `scheduler.add_scheduling_middleware`.

    >>> async def tag(spec: JobSpec[Any]) -> JobSpec[Any]:
    ...     return spec.with_options(tags=["kitchen"])
    >>> middleware: SchedulingMiddleware = tag
    """

    def __call__(self, spec: JobSpec[Any], /) -> Awaitable[JobSpec[Any]]:
        """Return the job, or a copy with changes; raise to refuse it."""
        ...


async def changed(middleware: Sequence[SchedulingMiddleware], spec: JobSpec[Any]) -> JobSpec[Any]:
    """A job as its middleware wants it stored.

    Raises:
        InvalidInputError: it is not a JobSpec, or a middleware returned something else.
        BaseException: whatever a middleware raises.
    """
    if not isinstance(spec, JobSpec):
        raise InvalidInputError(f"pass JobSpec objects, not {type(spec).__qualname__}", field="specs")
    for each in middleware:
        returned: Any = await each(spec)
        if not isinstance(returned, JobSpec):
            name = getattr(each, "__qualname__", type(each).__qualname__)
            raise InvalidInputError(
                f"the scheduling middleware {name} returned {returned!r}; it must return the JobSpec that it got, or "
                "a copy with changes",
                field="middleware",
            )
        spec = returned
    return spec
