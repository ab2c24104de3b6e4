"""How the jobs of a chaos run come in, while things break: single calls and batches, and changes of what is there."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from redsched import (
    BackgroundTaskScheduler,
    ConflictingIdError,
    JobLookupError,
    SchedulerStateError,
    StoreError,
    StoreFullError,
)
from redsched.chaos.wishes import Change, Wish

__all__ = ["LOOK_S", "produce", "sample_clock"]

CALLERS = 8
"""How many callers submit at once: while one waits for an answer, the others go on."""
BATCH_S = 0.02
"""Jobs that fall due within this many seconds are submitted together."""
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_S = 0.1
"""Between two looks at Redis' clock."""


async def produce(scheduler: BackgroundTaskScheduler, wishes: Sequence[Wish], rng: random.Random) -> list[str]:
    """Submit everything at its time, and change what is to be changed; returns once all is answered.

    Returns:
        What went wrong in a way that no fault explains, in words.
    """
    wrong: list[str] = []
    began = time.monotonic()
    free = asyncio.Semaphore(CALLERS)
    async with asyncio.TaskGroup() as group:
        index = 0
        while index < len(wishes):
            await asyncio.sleep(max(0.0, wishes[index].at - (time.monotonic() - began)))
            upto = index + 1
            while upto < len(wishes) and wishes[upto].at < wishes[index].at + BATCH_S and upto - index < 200:
                upto += 1
            batch = wishes[index:upto]
            index = upto
            # Half of the time as one call, else each by itself.
            for part in [batch] if rng.random() < 0.5 else [[wish] for wish in batch]:
                await free.acquire()
                group.create_task(_submit(scheduler, part, group, free, wrong))
    return wrong


async def _submit(
    scheduler: BackgroundTaskScheduler,
    wishes: Sequence[Wish],
    group: asyncio.TaskGroup,
    free: asyncio.Semaphore,
    wrong: list[str],
) -> None:
    began = time.monotonic()
    status = "accepted"
    try:
        now = await scheduler.now() if any(wish.periodic or wish.kind == "at" for wish in wishes) else NO_TIME
        began = time.monotonic()
        status = "unknown"
        await scheduler.schedule_many([wish.spec(now) for wish in wishes])
        status = "accepted"
    except StoreFullError:
        status = "refused"
    except StoreError:
        status = "unknown" if status == "unknown" else "never"
    except ConflictingIdError as error:
        status = "unknown"
        wrong.append(f"a request was refused because of itself: {error}")
    finally:
        free.release()
    ended = time.monotonic()
    for wish in wishes:
        wish.status, wish.asked = status, (began, ended)
        if status == "accepted" and wish.changes:
            group.create_task(_change(scheduler, wish))


async def _change(scheduler: BackgroundTaskScheduler, wish: Wish) -> None:
    for change in wish.changes:
        await asyncio.sleep(max(0.0, wish.asked[1] + change.after - time.monotonic()))
        change.began = time.monotonic()
        try:
            change.outcome = "done" if await _ask(scheduler, wish.id, change) else "late"
        except (JobLookupError, SchedulerStateError):
            change.outcome = "late"
        except StoreError:
            change.outcome = "unknown"
        change.ended = time.monotonic()


async def _ask(scheduler: BackgroundTaskScheduler, job_id: str, change: Change) -> bool:
    match change.what:
        case "cancel":
            return await scheduler.cancel(job_id)
        case "pause":
            await scheduler.pause_job(job_id)
        case "move":
            at = await scheduler.now() + timedelta(milliseconds=change.by_ms)
            change.to_ms = round(at.timestamp() * 1000)
            await scheduler.modify_job(job_id, next_run_time=at)
        case _:
            await scheduler.resume_job(job_id)
    return True


async def sample_clock(scheduler: BackgroundTaskScheduler, samples: list[tuple[float, int]]) -> None:
    """Ask for the scheduler's time, once."""
    with contextlib.suppress(StoreError):
        asked = time.monotonic()
        samples.append((asked, round((await scheduler.now()).timestamp() * 1000)))
