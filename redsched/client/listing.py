"""Many jobs without all of them at once: pages by next run time, and a stream."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

from redsched.checks import int_between
from redsched.errors import InvalidInputError
from redsched.jobs.ids import parse_run_id
from redsched.jobs.view import view_of
from redsched.model import JobView, State
from redsched.store import queries
from redsched.store.store import Store

__all__ = ["JobPage", "check_state", "get_page", "iter_jobs"]

CHUNK = 200
"""Jobs that are read by one call: 1 to 2 ms of Redis' time."""


class JobPage(list[JobView]):
    """Jobs, and where to go on.

    >>> async def all_ids(scheduler: BackgroundTaskScheduler) -> list[str]:
    ...     page = await scheduler.get_jobs(limit=100)
    ...     ids = [job.id for job in page]
    ...     while page.cursor is not None:
    ...         page = await scheduler.get_jobs(limit=100, cursor=page.cursor)
    ...         ids += [job.id for job in page]
    ...     return ids
    """

    cursor: str | None = None
    """For the next `get_jobs(cursor=…)`; None on the last page."""


def check_state(state: State | str | None) -> State | None:
    """A state, by its name.

    Raises:
        InvalidInputError: there is no such state.
    """
    try:
        return None if state is None else State(state)
    except ValueError:
        known = ", ".join(s.value for s in State)
        raise InvalidInputError(f"state is {state!r}; it must be one of {known}", field="state") from None


async def iter_jobs(store: Store, tag: str | None, queue: str | None, state: State | None) -> AsyncIterator[JobView]:
    """See `BackgroundTaskScheduler.iter_jobs`."""
    wanted = queries.Wanted(queue, state)
    ids: list[str] = []
    async for job_id in queries.find_ids(store, tag=tag):
        ids.append(job_id)
        if len(ids) == CHUNK:
            for stored in (await queries.read_jobs(store, dict.fromkeys(ids), wanted)).values():
                yield view_of(stored, store.sealer)
            ids.clear()
    for stored in (await queries.read_jobs(store, dict.fromkeys(ids), wanted)).values():
        yield view_of(stored, store.sealer)


async def get_page(
    store: Store, tag: str | None, queue: str | None, state: State | None, limit: int, cursor: str | None
) -> JobPage:
    """One page: first what is due at some time, by that time, then the rest; with a tag, in no order."""
    page = JobPage()
    int_between(limit, "limit", 1)
    place = {"at": "scan" if tag is not None else "due"} if cursor is None else _decode(cursor)
    try:
        if place["at"] == "due":
            place = await _due_page(store, page, queue, state, limit, place)
        if place["at"] == "scan":
            place = await _scan_page(store, page, queries.Wanted(queue, state, undue=tag is None), tag, limit, place)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if cursor is None or isinstance(error, InvalidInputError):
            raise
        raise _wrong(cursor) from None
    page.cursor = None if place["at"] == "end" else _encode(place)
    return page


async def _due_page(
    store: Store, page: JobPage, queue: str | None, state: State | None, limit: int, place: dict[str, Any]
) -> dict[str, Any]:
    queues = place.get("queues") or ([queue] if queue is not None else await queries.find_queues(store))
    after: tuple[float, str] | None = (float(place["ms"]), str(place["id"])) if "ms" in place else None
    while len(page) < limit:
        entries = await queries.due_after(store, queues, after, CHUNK)
        if not entries:
            return {"at": "scan"}
        ids = [job_id for _, job_id in entries if parse_run_id(job_id)[1] is None]  # a run's job is there itself
        found = await queries.read_jobs(store, ids, queries.Wanted(queue, state))
        for score, job_id in entries:
            after = (score, job_id)
            if job_id in found:
                page.append(view_of(found[job_id], store.sealer))
                if len(page) == limit:
                    break
    assert after is not None
    return {"at": "due", "queues": queues, "ms": after[0], "id": after[1]}


async def _scan_page(
    store: Store, page: JobPage, wanted: queries.Wanted, tag: str | None, limit: int, place: dict[str, Any]
) -> dict[str, Any]:
    shard, step, seen = (int(place.get(name, 0)) for name in ("shard", "step", "seen"))
    while shard < len(store.shards):
        following, ids = await queries.scan_ids(store.shards[shard], tag, step, CHUNK)
        while seen < len(ids):
            if len(page) == limit:
                return {"at": "scan", "shard": shard, "step": step, "seen": seen}
            # No more than may be shown: what is read and not shown would be read again.
            some = ids[seen : seen + min(CHUNK, limit - len(page))]
            page += [
                view_of(stored, store.sealer) for stored in (await queries.read_jobs(store, some, wanted)).values()
            ]
            seen += len(some)
        seen, step = 0, following
        shard += step == 0
    return {"at": "end"}


def _encode(place: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode()


def _decode(cursor: str) -> dict[str, Any]:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, AttributeError, RecursionError):
        raise _wrong(cursor) from None
    if not isinstance(place, dict) or place.get("at") not in ("due", "scan"):
        raise _wrong(cursor)
    return place


def _wrong(cursor: Any) -> InvalidInputError:
    return InvalidInputError(f"cursor is {cursor!r}; it must be the cursor of a page of get_jobs", field="cursor")
