"""Finds the task that blocks an event loop: from another thread, during the stall or right after it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextvars import Context
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from redsched.context import current_run
from redsched.worker.executors.threads import Call
from redsched.worker.runs import Run

if TYPE_CHECKING:
    from redsched.worker.state import WorkerState

__all__ = ["Blocker", "Looker"]

FRAMES = 6
"""Number of stack frames that are reported, the innermost first."""
LOOP_ITSELF = (
    "selectors.py", "asyncio/base_events.py", "asyncio/runners.py", "asyncio/events.py", "uvloop/__init__.py",
)  # fmt: skip
"""Where a loop that has nothing to do is found."""
_HANDLE_RUN = asyncio.Handle._run.__code__  # pyright: ignore[reportAttributeAccessIssue]
OTHER = "something else on this event loop, and no task of redsched"
OUTSIDE_REMEDY = (
    "move it to a thread (asyncio.to_thread), or let a process apart run the jobs (`redsched worker`); a longer lease "
    "bears longer stalls"
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """The cause of a stall."""

    words: str
    """For the log: who, and where in the code."""
    task: str = ""
    """Of redsched; "" where it is none."""
    run: Run | None = None
    remedy: str = ""
    """Where it is another than for a task of redsched."""


class Looker:
    """Looks at one worker's event loop. Made in the thread of the loop."""

    def __init__(self, worker: WorkerState, loop: asyncio.AbstractEventLoop) -> None:
        self._worker = worker
        self._loop = loop
        self._thread = threading.get_ident()
        self._owner = threading.current_thread()
        self._used: dict[int, float] = {}
        """Processor seconds of the threads that execute plain functions, and of the loop's, a moment ago."""
        self._process_used = 0.0
        self.note_times()

    @property
    def is_over(self) -> bool:
        """The loop is closed, or its thread has ended, without a word: there is nothing to look at any more."""
        return self._loop.is_closed() or not self._owner.is_alive()

    def note_times(self) -> None:
        """Note how much the threads have used up to now, that is, before a stall."""
        self._used = self._times()
        self._process_used = time.process_time()

    def look(self, seconds: float, *, held_up: bool) -> Blocker | None:
        """What blocks the loop now, or did until a moment ago (`held_up`: not even other threads could run).

        Returns None if nothing can be said yet.
        """
        if held_up:
            call = self._busiest(seconds)
            if call is not None:
                return _of_call(call)
            if hasattr(time, "pthread_getcpuclockid") and not self._has_computed(seconds):
                return None  # the process stood still: whose step it is now says nothing
        if not self._loop.is_running():
            return Blocker("the code that runs it, and has not done so meanwhile", remedy=OUTSIDE_REMEDY)
        frame = sys._current_frames().get(self._thread)
        task = self._task()
        if task is None and (frame is None or _is_idle(frame)):
            return None
        where = _where(frame)
        run = self._run_of(task, frame)
        if run is not None:
            return Blocker(f"task {run.job.record.task!r} (job {run.job.id}, run {run.id}), at {where}",
                           run.job.record.task, run)  # fmt: skip
        named = "" if task is None else f" (asyncio task {task.get_name()!r})"
        return Blocker(f"{OTHER}{named}, at {where}", remedy=OUTSIDE_REMEDY)

    def look_behind(self, seconds: float) -> Blocker:
        """The cause of a stall that the watchdog did not see. Called in the loop's thread."""
        call = self._busiest(seconds)
        if call is not None:
            return _of_call(call)
        if self._has_computed(seconds):
            return Blocker("a step that computed, and was not seen while it did", remedy=OUTSIDE_REMEDY)
        return Blocker(
            "nothing in it: the whole process stood still (it was stopped, or got no processor), or a C call held the "
            "interpreter's lock",
            remedy="look at the load of the machine, and for calls of extension modules that wait with the lock held",
        )

    def _has_computed(self, seconds: float) -> bool:
        """Whether it was the loop's own thread that used the processor."""
        spent = self._times().get(self._thread, 0.0) - self._used.get(self._thread, 0.0)
        return spent >= self._much(seconds)

    def _much(self, seconds: float) -> float:
        """What a thread must have used to be the one that held the others up: most of what the process got, which on a
        busy machine may be little, but not next to nothing."""
        return max(0.05 * seconds, 0.6 * (time.process_time() - self._process_used))

    def _task(self) -> asyncio.Task[Any] | None:
        try:
            return asyncio.current_task(self._loop)
        except RuntimeError:
            return None

    def _run_of(self, task: asyncio.Task[Any] | None, frame: FrameType | None) -> Run | None:
        """The run that makes the step, or made the task or the callback that does."""
        for loop in self._worker.loops:
            for run in list(loop.held.values()):
                if run.waiter is task:
                    return run
        context = _context_of(frame)
        if context is None and task is not None and sys.version_info >= (3, 12):
            context = task.get_context()
        run = None if context is None else context.get(current_run)
        return run if isinstance(run, Run) and run.loop.worker is self._worker else None

    def _times(self) -> dict[int, float]:
        if not hasattr(time, "pthread_getcpuclockid"):
            return {}
        used: dict[int, float] = {}
        for ident in (self._thread, *(call.thread for call in self._calls())):
            if ident:
                try:
                    used[ident] = time.clock_gettime(time.pthread_getcpuclockid(ident))
                except OSError:
                    continue
        return used

    def _calls(self) -> list[Call]:
        return [call for threads in self._worker.executors.threads for call in list(threads.calls)]

    def _busiest(self, seconds: float) -> Call | None:
        """The plain function that used most of the time: it held the interpreter's lock."""
        if self._has_computed(seconds):
            return None
        used = self._times()
        most: Call | None = None
        least = self._much(seconds)
        for call in self._calls():
            spent = used.get(call.thread, 0.0) - max(self._used.get(call.thread, 0.0), call.used_before)
            if call.thread and spent >= least:
                most, least = call, spent
        since = time.monotonic() - seconds
        for call in [one for threads in self._worker.executors.threads for one in list(threads.heavy)]:
            if call.ended_at >= since and call.used >= least:
                most, least = call, call.used
        return most


def _of_call(call: Call) -> Blocker:
    run = call.run
    name = run.job.record.task
    words = (
        f"task {name!r} (job {run.job.id}, run {run.id}), which in its thread made a call that held the interpreter's "
        "lock"
    )
    where = _where(sys._current_frames().get(call.thread))
    remedy = 'give the job executor="processpool": while such a call lasts, nothing else of the process can run'
    return Blocker(f"{words}, at {where}", name, run, remedy)


def _context_of(frame: FrameType | None) -> Context | None:
    """The context of the callback that asyncio's own event loop executes."""
    while frame is not None:
        if frame.f_code is _HANDLE_RUN:
            return getattr(frame.f_locals.get("self"), "_context", None)
        frame = frame.f_back
    return None


def _is_idle(frame: FrameType) -> bool:
    return frame.f_code.co_filename.replace("\\", "/").endswith(LOOP_ITSELF)


def _where(frame: FrameType | None) -> str:
    """The innermost lines, without those of redsched and asyncio around them."""
    lines: list[str] = []
    while frame is not None and len(lines) < FRAMES:
        code = frame.f_code
        if code is _HANDLE_RUN or "/redsched/worker/" in code.co_filename:
            break
        lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return " < ".join(lines) or "an unknown place"
