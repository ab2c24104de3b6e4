"""The numbers of a client's requests: the scripts answer each number once (`lua/include/once.lua`)."""

from __future__ import annotations

from threading import Lock

from redsched.jobs.ids import new_id
from redsched.runtime import forks

__all__ = ["Requests"]


class Requests:
    """The numbers of one client: this process, on one shard. Several threads with event loops may ask at once."""

    def __init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        """Be another client: under a number of the parent's, a request would get the answer to the parent's."""
        self._client = new_id()
        self._number = 0
        self._under_way: set[int] = set()
        self._numbering = Lock()

    def begin(self) -> tuple[int, str, int]:
        """A further request: its number, its name for the scripts, and below which number all are answered."""
        with self._numbering:
            self._number += 1
            self._under_way.add(self._number)
            return self._number, f"{self._client}:{self._number}", min(self._under_way)

    def renew(self) -> None:
        """Be another client from now on: what Redis keeps under the present name, another wrote."""
        with self._numbering:
            self._client = new_id()

    def end(self, number: int) -> None:
        """Note that a request was answered, or abandoned."""
        with self._numbering:
            self._under_way.discard(number)
