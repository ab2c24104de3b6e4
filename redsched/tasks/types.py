"""What a type checker has to know of a task to know what its jobs return.

Each method that schedules has three overloads: what is awaited, a class-based task that is not, and any other function.
They are three because both mypy and pyright take the first that fits, and give up on a union of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # `JobHandle` without its bracket is `JobHandle[Any]`: no annotation that was right becomes wrong.
    R = TypeVar("R", default=Any, covariant=True)
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R", covariant=True)
    T = TypeVar("T")

__all__ = ["AnyTask", "AsyncTask", "ClassTask", "R", "T"]


class Executes(Protocol[R]):
    """A `BackgroundTask`, by its method: its constructor and its arguments are its own."""

    def execute(self, *args: Any, **kwargs: Any) -> R:
        """As `BackgroundTask.execute`."""
        ...


class ExecutesAsync(Protocol[R]):
    """One whose `execute` is a coroutine function."""

    def execute(self, *args: Any, **kwargs: Any) -> Awaitable[R]:
        """As `BackgroundTask.execute`."""
        ...


AsyncTask = Callable[..., Awaitable[T]] | type[ExecutesAsync[T]] | ExecutesAsync[T]
"""A coroutine function, or a class-based task that has one."""
ClassTask = type[Executes[T]] | Executes[T]
"""A class-based task that runs in a thread, as its class or an instance."""
AnyTask = Callable[..., Any] | type[Executes[Any]] | Executes[Any]
"""Any task."""
