"""What code acts for: an event of a stream whose handling may be repeated, and must then do nothing twice.

While a handler of such an event runs, its requests to Redis are numbered by the event instead of by the process. The
scripts answer a number that they have answered before with the first reply (`lua/include/once.lua`), so whatever the
handler does to jobs is done once, however often the event is delivered.
"""

from __future__ import annotations

import hashlib
from contextvars import ContextVar

from redsched.ids import new_id

__all__ = ["Origin", "current_origin", "job_id"]


class Origin:
    """One event, and how many requests and jobs its handler has made so far."""

    __slots__ = ("_jobs", "_requests", "client")

    def __init__(self, stream: str, group: str, entry: str, remember_ms: int) -> None:
        digest = hashlib.blake2b(f"{stream}\0{group}\0{entry}".encode(), digest_size=15).hexdigest()
        self.client = f"event/{remember_ms}/{digest}"
        """In the place of the client in requests; the scripts read from it how long to remember them."""
        self._requests = 0
        self._jobs = 0

    def next_request(self) -> int:
        """The number of a request."""
        self._requests += 1
        return self._requests

    def take_back(self) -> None:
        """The last request was refused before it was looked at: the next one is the same."""
        self._requests -= 1

    def next_job_id(self) -> str:
        """The id of a job that was given none: the same whenever the event is handled."""
        self._jobs += 1
        return f"E{self.client.rpartition('/')[2]}-{self._jobs}"


current_origin: ContextVar[Origin | None] = ContextVar("redsched_origin", default=None)


def job_id() -> str:
    """The id of a job that was given none."""
    origin = current_origin.get()
    return new_id() if origin is None else origin.next_job_id()
