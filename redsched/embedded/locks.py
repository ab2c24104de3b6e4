"""Lock files of an embedded server's folder, by flock(2)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from redsched.embedded.files import open_file
from redsched.runtime import forks

__all__ = ["close_lock", "open_lock", "try_lock"]

_locks: set[int] = set()
"""Descriptors of lock files. A forked child closes its copies, for they would hold the parent's locks: a lock of
flock(2) ends when its last copy is closed. (To unlock it would end the parent's at once.)"""


def try_lock(descriptor: int, how: int) -> bool:
    """Take the lock if that is possible at once."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_lock(folder: Path, name: str) -> int:
    """A descriptor of a lock file, which is made if it is not there. Close it with `close_lock`.

    Raises:
        FolderError: it is a link, or not ours alone.
    """
    descriptor = open_file(folder, name, os.O_RDWR | os.O_CREAT)
    _locks.add(descriptor)
    return descriptor


def close_lock(descriptor: int) -> None:
    """Close it, which ends the lock."""
    _locks.discard(descriptor)  # first: another thread may get its number at once
    os.close(descriptor)


@forks.on_fork
def _close_copies() -> None:
    for descriptor in _locks:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _locks.clear()
