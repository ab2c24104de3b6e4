"""Says to the workers of this process that it can run more than before: a function was registered, an executor added.

What such a worker could not run may be parked in Redis: it looks again.
"""

from __future__ import annotations

from collections.abc import Callable

from redsched.runtime import forks

__all__ = ["learned", "lessons", "unwatch", "watch"]

_watchers: set[Callable[[], None]] = set()
_lessons = 0


def learned() -> None:
    """There is one more task, bound instance or executor in this process."""
    global _lessons
    _lessons += 1
    forks.notice()
    for watcher in list(_watchers):
        watcher()


def lessons() -> int:
    """How often `learned` was called: while it stays the same, what cannot be run stays so."""
    return _lessons


def watch(watcher: Callable[[], None]) -> None:
    """Call it at each `learned` of this process, in whichever thread that happens."""
    forks.notice()
    _watchers.add(watcher)


def unwatch(watcher: Callable[[], None]) -> None:
    """Do not call it any more."""
    _watchers.discard(watcher)


forks.on_fork(_watchers.clear)  # those of the parent have their event loop there
