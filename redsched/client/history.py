"""How runs ended: of one job, with a wait for it or without, and of all.

How a run ended is kept for `result_ttl` under its id (`lua/include/outcomes.lua`), beside what its task returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from redsched.checks import check_name
from redsched.client.core import Client
from redsched.client.events import history
from redsched.client.outcomes import Ended
from redsched.client.results import ResultWaiter, UnknownRunError, UnreadableOutcomesError
from redsched.codec.payload_security import open_result
from redsched.codec.values import unpack_result
from redsched.errors import EncodingError, JobLookupError, ResultTimeoutError, UnknownKeyError, UntrustedRecordError
from redsched.jobs.ids import job_of
from redsched.model import Event, Outcome, Reason, TaskExecutionResult
from redsched.store import queries
from redsched.store.clock import from_ms
from redsched.store.store import Store

log = logging.getLogger("redsched.results")

__all__ = ["FINAL", "get_result", "past_results", "wait_for_result"]

FINAL = frozenset({"done", "dead", "missed", "cancelled", "removed", "skipped"})
"""Kinds of events after which a run gets no further attempt."""


UPGRADED_LATELY_MS = 3_600_000
"""For so long after the first outcome was kept, the events may know of ends that an older version settled."""


async def wait_for_result(client: Client, job_id: str, timeout: float | timedelta | None) -> TaskExecutionResult[Any]:
    """See `BackgroundTaskScheduler.wait_for_result`."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    check_name(job_id, "job_id")
    store = await client.store()
    waiter = client.waiters.get()
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            try:
                ended = await waiter.wait(job_id)
            except UnreadableOutcomesError as error:
                return await _watch_the_events(store, waiter, job_id, error.now_ms)
    except TimeoutError:
        if not limit.expired():
            raise
        raise ResultTimeoutError(f"no run of job {job_id!r} ended within {seconds:g} s; it goes on") from None
    except UnknownRunError as error:
        return await _from_the_events(store, error)
    return _result(store, ended)


async def _watch_the_events(store: Store, waiter: ResultWaiter, job_id: str, since_ms: int) -> TaskExecutionResult[Any]:
    """How a run ends, for a user who may not read outcomes."""
    log.warning("this user may not read how runs end: the events are read twice a second. See docs/security.md")
    while True:
        past = await history(store, limit=1, job_id=job_of(job_id), kinds=FINAL)
        if past and job_id in (past[-1].job_id, past[-1].run_id) and past[-1].at >= from_ms(since_ms):
            return await _result_of(store, past[-1])
        await asyncio.sleep(0.5)
        with contextlib.suppress(UnreadableOutcomesError):
            return _result(store, await waiter.wait(job_id))


async def get_result(client: Client, job_id: str) -> TaskExecutionResult[Any] | None:
    """See `BackgroundTaskScheduler.get_result`."""
    check_name(job_id, "job_id")
    store = await client.store()
    [answer], now_ms, from_ms = await store.shard(job_id).outcome([job_id])
    ended = Ended.of(job_id, answer)
    if ended is not None:
        return _result(store, ended)
    if answer[0] == b"open":
        return None
    with contextlib.suppress(JobLookupError):
        return await _from_the_events(store, UnknownRunError(job_id, now_ms, from_ms))
    return None


async def _from_the_events(store: Store, unknown: UnknownRunError) -> TaskExecutionResult[Any]:
    """Look in the events for a run that an older version settled, if such a version is or was lately at work."""
    if unknown.from_ms <= 0 or unknown.now_ms - unknown.from_ms < UPGRADED_LATELY_MS or await _works_an_older(store):
        past = await history(store, limit=1, job_id=job_of(unknown.run_id), kinds=FINAL)
        if past and unknown.run_id in (past[-1].job_id, past[-1].run_id):
            return await _result_of(store, past[-1])
    raise JobLookupError(
        f"no job with id {unknown.run_id!r}, and its outcome is not known: outcomes are kept for result_ttl, and only "
        "as long as outcomes_max_bytes has room"
    ) from None


async def _works_an_older(store: Store) -> bool:
    return not all(info.get("outcomes") for info in (await queries.read_workers(store)).values())


def _result(store: Store, ended: Ended) -> TaskExecutionResult[Any]:
    result: Any = None
    is_done = ended.kind == "done"
    if isinstance(ended.result, bytes):
        result = unpack_result(open_result(store.sealer, ended.run_id, ended.result))
    elif ended.result:
        raise EncodingError(f"what the task returned takes {ended.result:,} bytes, more than this process reads")
    kind = {"removed": Outcome.CANCELLED, "skipped": Outcome.MISSED}.get(ended.kind)
    return TaskExecutionResult(
        job_id=job_of(ended.run_id),
        task_name=ended.task,
        outcome=kind or Outcome(ended.kind),
        result=result,
        error=None if is_done else ended.error,
        error_type=ended.error.partition(":")[0] if ended.error and ended.kind == "dead" else None,
        reason=_reason(ended.reason),
        attempt=ended.attempt,
        fire_time=None if ended.fire_ms is None else from_ms(ended.fire_ms),
        execution_time=ended.duration_ms / 1000,
        run_id=ended.run_id,
        result_note=ended.error if is_done else None,
    )


def _reason(word: str | None) -> Reason | None:
    try:
        return Reason(word) if word else None
    except ValueError:
        return None  # of a newer redsched


async def past_results(client: Client, job_id: str | None, limit: int) -> list[TaskExecutionResult]:
    """See `BackgroundTaskScheduler.get_results`."""
    store = await client.store()
    past = await history(store, limit=limit, job_id=job_id, kinds=FINAL)
    found: list[TaskExecutionResult] = []
    for event in past:
        try:
            found.append(await _result_of(store, event))
        except (EncodingError, UnknownKeyError, UntrustedRecordError) as problem:  # it must not hide the others
            found.append(
                await _result_of(store, replace(event, error=f"the result cannot be read: {problem}"), read=False)
            )
    return found


async def _result_of(store: Store, event: Event, *, read: bool = True) -> TaskExecutionResult:
    data = None
    if event.kind == "done" and read:
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
        error=None if event.kind == "done" else event.error,
        error_type=event.error.partition(":")[0] if event.error and event.kind == "dead" else None,
        reason=event.reason,
        attempt=event.attempt or 1,
        fire_time=event.fire_time,
        execution_time=event.execution_time,
        run_id=event.run_id,
        result_note=event.error if event.kind == "done" else None,
    )
