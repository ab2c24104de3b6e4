"""Waiting for a run to end.

What a task returned is kept for a while (`result_ttl`); how a run ended is in the events. So nothing is stored for
the runs that nobody waits for, beyond what their task returned.
"""

from __future__ import annotations

import asyncio

from redsched.codec import unpack_result
from redsched.errors import JobLookupError, ResultTimeoutError
from redsched.events import history
from redsched.feed import EventFeed
from redsched.model import Event, Outcome, TaskExecutionResult
from redsched.sealing import open_result
from redsched.store import queries
from redsched.store.store import Store

__all__ = ["FINAL", "past_results", "wait_for_result"]

FINAL = frozenset({"done", "dead", "missed", "cancelled", "removed", "skipped"})
"""Kinds of events after which a run gets no further attempt."""


async def wait_for_result(store: Store, feed: EventFeed, job_id: str, seconds: float | None) -> TaskExecutionResult:
    """See `BackgroundTaskScheduler.wait_for_result`."""
    ended: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    def watch(event: Event) -> None:
        if event.job_id == job_id and event.kind in FINAL and not ended.done():
            ended.set_result(event)

    feed.add(watch)
    try:
        # Watch first, then look: what ends in between is seen by one of the two.
        stored = (await queries.read_jobs(store, [job_id])).get(job_id)
        state = stored.fields.get("state") if stored is not None else None
        if stored is None or state == b"dead":
            past = await history(store, limit=1, job_id=job_id, kinds=FINAL)
            if past:
                return await _result_of(store, past[-1])
            if stored is None and not ended.done():
                raise JobLookupError(f"there is no job of the id {job_id!r}, and how it ended is not known any more")
        try:
            event = await asyncio.wait_for(ended, seconds)
        except TimeoutError:
            raise ResultTimeoutError(f"no run of job {job_id!r} ended within {seconds:g} s; it goes on") from None
        return await _result_of(store, event)
    finally:
        feed.remove(watch)


async def past_results(store: Store, job_id: str | None, limit: int) -> list[TaskExecutionResult]:
    """See `BackgroundTaskScheduler.get_results`."""
    past = await history(store, limit=limit, job_id=job_id, kinds=FINAL)
    return [await _result_of(store, event) for event in past]


async def _result_of(store: Store, event: Event) -> TaskExecutionResult:
    data = None
    if event.kind == "done":
        run_id = event.run_id or event.job_id
        data = await queries.read_result(store, event.job_id, run_id)
        if data is not None:
            data = open_result(store.sealer, run_id, data)
    kind = {"removed": Outcome.CANCELLED, "skipped": Outcome.MISSED}.get(event.kind)
    return TaskExecutionResult(
        job_id=event.job_id,
        task_name=event.task or "",
        outcome=kind or Outcome(event.kind),
        result=None if data is None else unpack_result(data),
        error=event.error,
        error_type=event.error.partition(":")[0] if event.error and event.kind == "dead" else None,
        reason=event.reason,
        attempt=event.attempt or 1,
        fire_time=event.fire_time,
        execution_time=event.execution_time,
        run_id=event.run_id,
    )
