"""The testing kit: a real server, time that you move, and waiting for events instead of sleeping.

Time travel moves the clock of the whole fleet at once, on a real server: the scripts add an offset to Redis' time.
Nothing is faked, so what passes here passes in production.

    async def test_a_reminder_is_sent_after_a_quarter_of_an_hour(redsched_kit):
        scheduler = redsched_kit.scheduler
        handle = await scheduler.schedule_delayed_task("reminder", remind, delay_minutes=15, args=["order-1"])
        await redsched_kit.advance(minutes=14)
        assert not sent
        await redsched_kit.advance(minutes=1)
        assert sent == ["order-1"]

With pytest, the fixtures `redsched_url`, `redsched_scheduler` and `redsched_kit` are there as soon as redsched is
installed (see `redsched.testing.pytest_plugin`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Generator
from datetime import datetime, timedelta
from typing import Any

from redsched.errors import InvalidInputError, ResultTimeoutError, SchedulerStateError, StoreUnavailableError
from redsched.jobs.ids import new_id
from redsched.model import Event
from redsched.scheduler import BackgroundTaskScheduler
from redsched.schedules.zones import instant_ms
from redsched.store.clock import from_ms
from redsched.store.queries import clear
from redsched.store.urls import kind_of
from redsched.testing.servers import LocalServer
from redsched.worker.worker import Worker

__all__ = ["Kit", "fresh_prefix", "kit", "remove_prefix", "server"]


@contextlib.contextmanager
def server(url: str | None = None) -> Generator[str]:
    """The URL of a real server for a test run: the given one, `REDSCHED_TEST_URL`, or one that is started here
    and stopped at the end (redis-server or valkey-server from PATH, else the embedded one), with no persistence.

    Raises:
        StoreUnavailableError: none can be started; the message says what to install.
    """
    url = url or os.environ.get("REDSCHED_TEST_URL")
    if url:
        yield url
        return
    try:
        started = LocalServer(unix=True)
    except (RuntimeError, TimeoutError) as error:
        raise StoreUnavailableError(f"no server for the tests: {error}") from error
    with started:
        yield started.url


class Kit:
    """A scheduler under test, its time, and what happens in it. Made by `kit()`."""

    def __init__(self, scheduler: BackgroundTaskScheduler) -> None:
        self.scheduler = scheduler
        self.events: list[Event] = []
        """Every event since the kit was made."""
        self._arrived = asyncio.Condition()
        self._worker: Worker | None = None

    async def _note(self, event: Event) -> None:
        async with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()

    async def now(self) -> datetime:
        """The fleet's time (UTC)."""
        return await self.scheduler.now()

    async def travel(self, delta: timedelta | None = None, **parts: float) -> datetime:
        """Move the whole fleet ahead in one jump: fires in between become overdue. `travel(hours=1)`, or a timedelta.

        Raises:
            InvalidInputError: the time would go back.
        """
        delta = delta if delta is not None else timedelta(**parts)
        if delta < timedelta(0):
            raise InvalidInputError(f"time never goes back ({delta})", field="delta")
        store = await self.scheduler.store()
        instants = [await shard.travel(ahead_ms=round(delta.total_seconds() * 1000)) for shard in store.shards]
        return from_ms(max(instants))

    async def travel_to(self, instant: datetime) -> datetime:
        """Move the whole fleet to an instant (a naive one is read in the scheduler's zone), if it is later than now."""
        store = await self.scheduler.store()
        until_ms = instant_ms(instant, self.scheduler.timezone)
        return from_ms(max([await shard.travel(until_ms=until_ms) for shard in store.shards]))

    async def run_due(self) -> int:
        """Run everything that is due now, and wait until it ends. Returns the number of runs started.

        Raises:
            SchedulerStateError: a worker serves in this scheduler, and runs due jobs by itself.
        """
        if self.scheduler.worker is not None:
            raise SchedulerStateError("this scheduler runs a worker: start(worker=False), or wait_for an event")
        if self._worker is None:
            await self.scheduler.store()
            self._worker = self.scheduler.make_worker()
        return await self._worker.run_once()

    async def advance(self, delta: timedelta | None = None, **parts: float) -> int:
        """Move time ahead from one due instant to the next, running each job on time, as if the time had passed.

        Returns the number of runs started.
        """
        delta = delta if delta is not None else timedelta(**parts)
        end_ms = instant_ms(await self.now() + delta, "UTC")
        started = await self.run_due()
        while True:
            next_ms = await self._next_due_ms()
            if next_ms is None or next_ms > end_ms:
                break
            await self.travel_to(from_ms(next_ms))
            started += await self.run_due()
        await self.travel_to(from_ms(end_ms))
        return started

    async def _next_due_ms(self) -> int | None:
        """When the next job of the queues that this scheduler serves is due."""
        earliest: int | None = None
        if self._worker is None:
            self._worker = self.scheduler.make_worker()
        for shard in (await self.scheduler.store()).shards:
            for queue in self._worker.queues:
                first = await shard.link.command("ZRANGE", shard.keys.due(queue), 0, 0, "WITHSCORES")
                if first and (earliest is None or int(first[1]) < earliest):
                    earliest = int(first[1])
        return earliest

    async def wait_for(self, kind: str, job_id: str | None = None, *, count: int = 1, timeout: float = 10.0) -> Event:
        """Wait until an event of that kind (of that job) has happened, `count` times since the kit was made.

        Raises:
            ResultTimeoutError: it did not, within `timeout` seconds of real time; the message lists what happened.
        """

        def matching() -> list[Event]:
            return [e for e in self.events if e.kind == kind and (job_id is None or e.job_id == job_id)]

        async def enough() -> Event:
            async with self._arrived:
                await self._arrived.wait_for(lambda: len(matching()) >= count)
                return matching()[count - 1]

        try:
            return await asyncio.wait_for(enough(), timeout)
        except TimeoutError:
            seen = ", ".join(f"{e.kind} {e.job_id}" for e in self.events[-20:]) or "nothing"
            raise ResultTimeoutError(
                f"{len(matching())} of {count} {kind!r} events within {timeout:g} s; seen: {seen}"
            ) from None


@contextlib.asynccontextmanager
async def kit(scheduler: BackgroundTaskScheduler, *, clean: bool = True) -> AsyncGenerator[Kit]:
    """A kit around a scheduler, started or not. At the end the scheduler is shut down and (`clean`) its jobs are
    removed.
    """
    made = Kit(scheduler)
    scheduler.add_listener(made._note)
    await scheduler._listeners.ensure()
    try:
        yield made
    finally:
        await scheduler.shutdown(wait=False)
        if clean and kind_of(scheduler.redis_url) != "embedded":
            store = await scheduler.client.open()
            try:
                await clear(await scheduler.store())
            finally:
                await store.close()  # also where what is stored is refused: of a newer layout, or divided otherwise


def fresh_prefix(start: str = "test") -> str:
    """A job_store_prefix that no other test uses; it begins with `start`."""
    return f"{start}-{new_id()}"


async def remove_prefix(scheduler: BackgroundTaskScheduler) -> None:
    """Delete every key of a scheduler's prefix, its clock too, which `clear_all_jobs` keeps: time must never go back.

    Only for a prefix of a test that no process uses any more.

    Raises:
        StoreError: Redis does not answer, or refuses; some keys may be left.
    """
    for shard in (await scheduler.store()).shards:
        cursor: Any = 0
        while True:
            cursor, keys = await shard.link.command("SCAN", cursor, "MATCH", f"{shard.keys.tag}*", "COUNT", 500)
            if keys:
                await shard.link.command("UNLINK", *keys)
            if int(cursor) == 0:
                break
