"""The places of a shard (`lua/include/park.lua`) where runs wait for a worker that has what they need.

What is needed is named by kind: `task:<name>`, `executor:<name>`, `record:<version>`, `key:<id>`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgpack

from redsched.codec.values import SEALED_VERSION
from redsched.tasks.learning import lessons
from redsched.worker.tracebacks import log_error

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["Places"]

PLACE_CHARS = 1024
"""The longest name of a place: `lua/include/park.lua` makes no longer one."""

log = logging.getLogger("redsched.worker")


class Places:
    """The existing places, and those of them that this worker serves."""

    def __init__(self, worker: WorkerState) -> None:
        self._worker = worker
        self._served: dict[str, bool] = {}
        self._lessons = lessons()
        self.is_new: bool = False
        """One is served that was not before: what is parked there wants a poll."""

    @property
    def served(self) -> list[str]:
        """The places that this worker serves."""
        return [place for place, served in self._served.items() if served]

    def packed(self) -> bytes:
        """The served places by queue, packed for `lua/poll.lua`."""
        if not self._served:
            return b""
        if self._lessons != lessons():
            self.look_again()
        by_queue: dict[str, list[str]] = {}
        for place in self.served:
            by_queue.setdefault(place.rpartition(" ")[2], []).append(place)
        if not by_queue:
            return b""
        return msgpack.packb(by_queue, use_bin_type=False, unicode_errors="surrogateescape") or b""

    def replace(self, places: Iterable[bytes]) -> None:
        """Take what Redis lists."""
        names = [place.decode("utf-8", "surrogateescape") for place in places]
        known = self._served
        # What a provider of services can give may change without a word: ask again for what is not served.
        fixed = self._worker.registry.provider is None
        self._served = {name: known[name] for name in names if known.get(name) or (fixed and name in known)}
        for name in names:
            self.add(name)

    def add(self, place: str) -> None:
        """There is one more."""
        if place not in self._served and len(place) <= PLACE_CHARS:
            self._set(place, served=self._serves(place))

    def refuse(self, place: str) -> None:
        """Stop serving a place whose need turned out to be missing, until this process learns something."""
        if self._served.get(place):
            self._served[place] = False

    def look_again(self) -> None:
        """Check all places again, because this process has learned something."""
        self._lessons = lessons()
        for place in self._served:
            self._set(place, served=self._serves(place))

    def take_new(self) -> bool:
        """Whether one is served that was not before, since the last question."""
        is_new, self.is_new = self.is_new, False
        return is_new

    def _set(self, place: str, *, served: bool) -> None:
        if served and not self._served.get(place):
            self.is_new = True
        self._served[place] = served

    def _serves(self, place: str) -> bool:
        need, _, queue = place.rpartition(" ")
        return queue in self._worker.queues and _has(self._worker, need)


def _has(worker: WorkerState, need: str) -> bool:
    """Whether this worker has what a run needs."""
    kind, _, name = need.partition(":")
    match kind:
        case "task":
            return _knows(worker, name)
        case "executor":
            return name in worker.executors
        case "record":
            return name.isdecimal() and len(name) < 10 and int(name) <= newest_record(worker)
        case "key":
            sealer = worker.store.sealer
            return sealer is not None and sealer.security.has(name)
        case _:
            return False


def newest_record(_worker: WorkerState) -> int:
    """The newest version of a record that a worker can read."""
    return SEALED_VERSION


def _knows(worker: WorkerState, task: str) -> bool:
    try:
        return worker.registry.find(task) is not None
    except (Exception, SystemExit) as error:  # to find it may import a module of the application's
        log_error(error, "the task %r cannot be looked for", task, level=logging.WARNING,
                  extra={"task": task, "worker": worker.id})  # fmt: skip
        return False
