"""What a forked child must not share with its parent: ids, connections, locks, and the life of a scheduler.

A fork copies every object, with what it stands for: the number of a socket, the id under which Redis knows a client, a
lock that another thread held. Each object that stands for something of its process registers itself here, and is reset
in each child, before the code of the child goes on. See docs/decisions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["Forkable", "close_copy", "keep_for_ever", "notice", "on_fork", "register"]

log = logging.getLogger("redsched.forks")


class Forkable(Protocol):
    """An object with a state that belongs to one process."""

    def after_fork(self) -> None:
        """Forget the parent's, in the child. It must not wait, use an event loop, or write to a socket."""
        ...


_objects: WeakSet[Forkable] = WeakSet()
_functions: list[Callable[[], None]] = []
_kept: list[Any] = []
_pid = os.getpid()
"""Of the process for which all is reset."""
_resetting = threading.RLock()
_under_way = False


def register(made: Forkable) -> None:
    """Call the object's `after_fork` in each child, for as long as the object lives."""
    _objects.add(made)


def on_fork(function: Callable[[], None]) -> Callable[[], None]:
    """Call a function in each child: for the state of a module."""
    _functions.append(function)
    return function


def notice() -> None:
    """Do what a fork demands, if Python was not informed of one: uWSGI forks in C, and runs no hooks by default.

    To be called before a state that `after_fork` resets is used. Costs one system call.
    """
    if os.getpid() != _pid:
        with _resetting:  # threads that come first wait until all is reset; what resets comes here as well
            _in_child()


def _in_child() -> None:
    global _pid, _under_way
    if os.getpid() == _pid or _under_way:
        return
    _under_way = True
    for reset in [*_functions, *(made.after_fork for made in list(_objects))]:
        try:
            reset()
        except Exception:
            log.exception("could not reset %r after a fork", reset)
    _pid, _under_way = os.getpid(), False


def _after_fork() -> None:
    global _resetting, _under_way
    _resetting, _under_way = threading.RLock(), False
    _in_child()


def close_copy(descriptor: int) -> None:
    """Close this child's copy of a descriptor that an object of the parent's owns.

    /dev/null takes its number, and the object may close that whenever it is collected: a number that was free could be
    another file's by then. Nothing is written to what was open, and no event loop is asked: a loop's epoll is shared
    with the parent, and to unregister a socket there would make the parent deaf.
    """
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(null, descriptor, inheritable=False)
        finally:
            os.close(null)


def keep_for_ever(*objects: Any) -> None:
    """Keep the parent's objects from being collected in this child: their finalizers would act on the parent's loop."""
    _kept.extend(objects)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
