"""The event loop's lateness: measured, attributed to the task whose step it was, reported, and bridged by the keeper.

The loop sets a timer. One that comes late says that nothing else of the loop could run either: no poll, no renewal of
a lease. A thread, the watchdog, looks meanwhile which task makes a step for so long; where a C call held the
interpreter's lock it looks as soon as it can, which is right behind that call, and asks which thread used the time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from redsched.model import Reason
from redsched.worker.blockers import Blocker, Looker
from redsched.worker.keeper import Keeper

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["Stall", "StallWatch"]

log = logging.getLogger("redsched.worker")

LONGEST_PATIENCE_S = 2.0
"""A stall of this length is reported, however long the leases are."""
LATE_S = 1.0
"""A stop request that was handled within this time counts as handled in time."""
REMEDY = (
    'give the job executor="processpool", make the task a plain function (it runs in a thread), or let it await more '
    "often; a longer lease bears longer stalls"
)


class Stall:
    """One stall that has ended."""

    def __init__(self, seconds: float, blocker: Blocker, ended: float) -> None:
        self.seconds = seconds
        self.blocker = blocker
        self.ended = ended
        """time.monotonic()."""


class StallWatch:
    """Watches the event loop of one worker, from `start` to `stop`."""

    def __init__(self, worker: WorkerState, *, lease: float, limit: float) -> None:
        self._worker = worker
        self.limit = limit
        self.threshold: float = min(lease / 4, LONGEST_PATIENCE_S)
        """Seconds; a shorter delay does not count as a stall."""
        self.period: float = self.threshold / 4
        self._early = max(self.threshold, lease / 2)
        """Seconds after which the log says that the loop is blocked, while it is."""
        self.beaten = 0.0
        """time.monotonic() of the last turn of the loop that was seen."""
        self.last: Stall | None = None
        self.signal: tuple[str, float] | None = None
        """A signal that asks the process to stop, and when it came (time.monotonic()); the loop has not seen it yet."""
        self.keeper: Keeper | None = None
        if limit > 0:
            self.keeper = Keeper(worker.id, worker.store.reached_by(), lease, limit)
        self._looker: Looker | None = None
        self._blocker: Blocker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # -- the event loop's thread ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the loop that this is called in."""
        loop = asyncio.get_running_loop()
        self._looker = Looker(self._worker, loop)
        self.beaten = time.monotonic()
        self._timer = loop.call_later(self.period, self._beat)
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="redsched watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; the keeper ends."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()

    def _beat(self) -> None:
        self.turned(time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(self.period, self._beat)

    def note_signal(self, who: str, at: float) -> None:
        """The process was asked to stop, at an instant of time.monotonic(); the loop has not heard of it yet."""
        self.signal = (who, at)

    def tell_lateness(self, who: str, at: float) -> None:
        """Log it if the loop handled a stop request long after it arrived."""
        self.signal = None
        now, stall = time.monotonic(), self.last
        why = ""
        if stall is not None and stall.ended >= now - LATE_S:
            why = f"the event loop was blocked for {stall.seconds:.1f} s by {stall.blocker.words}"
        if now - at >= LATE_S:
            log.warning(
                "%s came %.1f s ago and is acted on now: %s", who, now - at, why or "the event loop did not turn",
                extra=self._fields(stall.blocker if stall is not None and why else None),
            )  # fmt: skip
        elif stall is not None and why:  # while a C call lasts, not even the arrival of a signal can be noted
            log.warning("%s is acted on now and may have come %.1f s ago: %s", who, stall.seconds, why,
                        extra=self._fields(stall.blocker))  # fmt: skip

    def turned(self, now: float) -> None:
        """The loop turns. Cheap: each poll says so as well, to know of a stall before it tells Redis anything."""
        late = now - self.beaten - self.period
        self.beaten: float = now
        if late >= self.threshold:
            self._stalled(late + self.period / 2, now)
        else:
            self._blocker = None
        if self.keeper is not None:
            self.keeper.beat(now, late=late >= self.threshold)

    def _stalled(self, seconds: float, now: float) -> None:
        blocker, self._blocker = self._blocker, None
        assert self._looker is not None
        if blocker is None:  # the watchdog had no chance to look
            blocker = self._looker.look_behind(seconds)
        self._looker.note_times()
        self.last = Stall(seconds, blocker, now)
        log.warning("the event loop was blocked for %.1f s by %s: %s", seconds, blocker.words, blocker.remedy or REMEDY,
                    extra=self._fields(blocker))  # fmt: skip
        self._worker.tally.stalled(blocker.task)
        text = f"blocked the event loop for {seconds:.1f} s: {blocker.words}"[:1000]
        told: list[Any] = ["", blocker.task, round(seconds * 1000), text, False]
        if blocker.run is None:
            self._worker.loops[0].stalls.add(told)
        else:
            told[0], told[4] = blocker.run.job.id, blocker.run.public_id
            blocker.run.loop.stalls.add(told, blocker.run.id)

    # -- the watchdog -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        warned = 0
        woke = time.monotonic()
        assert self._looker is not None
        if self.keeper is not None:
            self.keeper.look(woke)
        while not self._ended.wait(self.period) and not self._looker.is_over:
            now = time.monotonic()
            was_held_up, woke = now - woke - self.period >= self.threshold / 2, now
            silent = now - self.beaten - self.period
            try:
                if silent >= self.threshold / 2 or was_held_up:
                    self._look(silent, held_up=was_held_up)
                else:
                    self._looker.note_times()
                if silent < self.threshold:
                    warned = 0
                elif warned < 2 and silent >= (self._early if not warned else self.limit):
                    warned += 1
                    self._warn(silent)
                if self.keeper is not None:
                    self.keeper.look(now)
            except Exception:
                log.warning("the watchdog of this worker failed; it goes on", exc_info=True, extra=self._fields(None))
        if self.keeper is not None:
            self.keeper.close()

    def _look(self, silent: float, *, held_up: bool) -> None:
        assert self._looker is not None
        known = self._blocker
        blocker = self._looker.look(max(silent, self.threshold / 2), held_up=held_up)
        if blocker is None or (known is not None and known.run is not None and blocker.run is None):
            return  # what was seen in the middle says more than what is seen at the end
        if known is not None and known.run is not blocker.run:
            words = f"the steps of several tasks, none of which waited long, such as {blocker.words}"
            blocker = Blocker(words, remedy="lower the concurrency of this worker, or start further processes")
        self._blocker = blocker
        if self.keeper is not None and (known is None or known.run is not blocker.run):
            self.keeper.blocked_by("" if blocker.run is None else blocker.run.id)

    def _fields(self, blocker: Blocker | None) -> dict[str, Any]:
        """The log fields of the run that blocked the loop, if a run did."""
        if blocker is None or blocker.run is None:
            return {"worker": self._worker.id, "reason": Reason.STALLED.value}
        return blocker.run.log_fields(Reason.STALLED)

    def _warn(self, silent: float) -> None:
        what = "something that is not known" if self._blocker is None else self._blocker.words
        signalled = ""
        if self.signal is not None:
            signalled = f"; {self.signal[0]} came {time.monotonic() - self.signal[1]:.1f} s ago, and waits for the loop"
        if silent >= self.limit > 0:
            log.error(
                "the event loop has been blocked for %.1f s by %s: that is longer than stall_limit (%g s), so other "
                "workers take over what this one holds%s", silent, what, self.limit, signalled,
                extra=self._fields(self._blocker),
            )  # fmt: skip
        else:
            log.warning("the event loop has been blocked for %.1f s by %s%s", silent, what, signalled,
                        extra=self._fields(self._blocker))  # fmt: skip
