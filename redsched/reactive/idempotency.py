"""The origin of requests: an event of a stream whose handling may be repeated, and must then do nothing twice.

While a handler of such an event runs, its requests to Redis are numbered by the event instead of by the process. The
scripts answer a number that they have answered before with the first reply (`lua/include/once.lua`), so whatever the
handler does to jobs is done once, however often the event is delivered.

A number identifies the operation, its jobs, and its ordinal among identical operations; it does not count others.
So concurrent calls, and a call that is omitted the second time, do not shift the numbers of others.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from redsched.context import current_event
from redsched.jobs.ids import next_id

__all__ = ["Origin", "job_id"]


def _digest(*parts: object, size: int = 15) -> bytes:
    return hashlib.blake2b("\0".join(map(str, parts)).encode(errors="surrogateescape"), digest_size=size).digest()


class Origin:
    """One attempt to handle one event, and what its handler has asked so far."""

    __slots__ = ("_asked", "client", "remember_ms")

    def __init__(self, stream: str, group: str, entry: str, remember_ms: int) -> None:
        self.client: str = f"event/{_digest(stream, group, entry).hex()}"
        """In the place of the client in requests."""
        self.remember_ms: int = remember_ms
        """How long the scripts are to remember them."""
        self._asked: Counter[bytes] = Counter()

    def number(self, *what: object) -> int:
        """The number of a further request for this."""
        key = _digest(*what)
        self._asked[key] += 1
        return int.from_bytes(_digest(key.hex(), self._asked[key], size=6))

    def take_back(self, *what: object) -> None:
        """The last request for this was refused and changed nothing: the next one is the same."""
        self._asked[_digest(*what)] -= 1

    def next_job_id(self, task: str, name: str) -> str:
        """The id of a job that was given none: the same whenever the event is handled."""
        key = _digest("id", task, name)
        self._asked[key] += 1
        return f"E{_digest(self.client, key.hex(), self._asked[key]).hex()}"


def job_id(task: str, name: str) -> str:
    """The id of a job that was given none. To be called after `forks.notice()`, see `next_id`."""
    origin = current_event.get()
    return next_id() if origin is None else origin.next_job_id(task, name)
