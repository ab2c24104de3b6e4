"""Says to the workers of this process that it can run more than before: a function was registered, an executor added.

What such a worker could not run may be parked in Redis: it looks again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["learned", "lessons", "unwatch", "watch"]

_watchers: dict[Callable[[], None], int] = {}
_lessons = 0


def learned() -> None:
    """There is one more task, bound instance or executor in this process."""
    global _lessons
    _lessons += 1
    for watcher, pid in list(_watchers.items()):
        if pid == os.getpid():  # those of a parent have their event loop there
            watcher()


def lessons() -> int:
    """How often `learned` was called: while it stays the same, what cannot be run stays so."""
    return _lessons


def watch(watcher: Callable[[], None]) -> None:
    """Call it at each `learned` of this process, in whichever thread that happens."""
    _watchers[watcher] = os.getpid()


def unwatch(watcher: Callable[[], None]) -> None:
    """Do not call it any more."""
    _watchers.pop(watcher, None)
