"""Directs the demo: what happens, and when.

The director moves the fleet's clock from one due instant to the next. At each it waits until everything that is due is
settled, so that nothing is late by accident. It injects two faults on purpose:

- in the morning it kills a worker (SIGKILL) that holds runs;
- in the afternoon it stops all workers and moves the clock three hours ahead, so that many fires are overdue at once.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from redsched import BackgroundTaskScheduler, Event, JobSpec
from redsched.demo.account import make_account, spans_of
from redsched.demo.agenda import Item, Settings, What
from redsched.demo.entries import Entry, load
from redsched.demo.expected import MINUTE_MS, Day
from redsched.demo.pace import Pace
from redsched.demo.pizzeria import Order, orders_of, schedule_order_workflow
from redsched.demo.report import Report, WorkerLine
from redsched.demo.story import Story, change_in_words
from redsched.demo.tally import Tally
from redsched.demo.tasks import cron_entry
from redsched.demo.worker import CONCURRENCY, EVENTS_MAX, LEASE_S
from redsched.store.clock import from_ms, to_ms
from redsched.testing import Kit
from redsched.testing.fleet import Fleet, Member
from redsched.testing.ledger import read

__all__ = ["Director"]

KILL_HOUR = 10
OUTAGE_HOURS = (14, 17)
SLOW_S = 1.0
"""Duration of the runs that are due in the minute of the kill."""
PATIENCE_S = 20.0
"""How long to wait for due runs to settle. After that the demo goes on, and the account will not add up."""
FINALE_S = 1.5
"""Time reserved for the end: stopping the workers, and reading the ledger and the stream."""


class Director:
    """One performance. The scheduler must be started, and its prefix must be empty; it needs no embedded worker."""

    def __init__(
        self, scheduler: BackgroundTaskScheduler, day: Day, settings: Settings, url: str, ledger: Path, server: str
    ) -> None:
        self.day = day
        self.settings = settings
        self.outage = (day.at(OUTAGE_HOURS[0]), day.at(OUTAGE_HOURS[1]))
        self.kill_ms = day.at(KILL_HOUR)
        self.entries: list[Entry] = load(day, settings.seed)
        self.orders: list[Order] = orders_of(day, self.outage[0], settings.seed)
        self.tally = Tally()
        self.tally.watch(frozenset(entry.job_id for entry in self.entries))
        self.ledger = ledger
        self.fleet = Fleet(
            "redsched.demo.worker",
            [scheduler.prefix, str(ledger), str(self.kill_ms), str(SLOW_S)],
            url=url,
            log=ledger.with_suffix(".log"),
        )
        self.story = Story(day, self.entries, self.tally, server, fleet=self.fleet)
        self._scheduler = scheduler
        self._kit = Kit(scheduler)
        self._fires = sorted(fire_ms for entry in self.entries for fire_ms in entry.expected.fires)
        self._agenda: list[Item] = []
        self._given_up = 0
        self._pace = Pace(settings.seconds - FINALE_S)
        self._began = time.monotonic()
        self.story.due_all = len(self._fires)

    # -- the day --------------------------------------------------------------------------------------------------

    async def perform(self) -> Report:
        """Run the whole day and return the report.

        Raises:
            FleetError: a worker process did not start, or ended unexpectedly.
        """
        self._began = time.monotonic()
        self._pace = Pace(self.settings.seconds - FINALE_S)
        self._scheduler.add_listener(self.tally.note)
        try:
            await self._open()
            while self._agenda:
                await self._play(heapq.heappop(self._agenda))
            return await self._close()
        finally:
            await self.fleet.end()

    async def _open(self) -> None:
        story, day = self.story, self.day
        story.now_ms = to_ms(await self._scheduler.now())
        await self._kit.travel_to(from_ms(day.start_ms - 2 * MINUTE_MS))
        story.now_ms = day.start_ms - 2 * MINUTE_MS
        story.say(
            f"{day.date} is {(day.end_ms - day.start_ms) / 3_600_000:g} hours long in {day.home}. {len(self.entries)} "
            f"cron entries of Debian packages, in {len(day.walks)} time zones: {len(self._fires):,} fires by an "
            "independent list."
        )
        if not day.changes:
            story.say("None of the demo's zones changes its clocks on this day.")
        await self._scheduler.schedule_many([self._spec(entry) for entry in self.entries])
        started = await self.fleet.start_many(self.settings.workers)
        story.say(f"{len(started)} worker processes: pid {', '.join(str(member.pid) for member in started)}.", "good")

        ticks = range(day.start_ms, day.end_ms, MINUTE_MS)
        self._agenda = [Item(at_ms, What.TICK) for at_ms in ticks if not self.outage[0] < at_ms <= self.outage[1]]
        tally_hours = {day.at(hour) for hour in (3, 6, 9, 12, 18, 21)}
        self._agenda += [Item(at_ms, What.TALLY) for at_ms in tally_hours]
        for number, change in enumerate(day.changes):
            text = change_in_words(change, self.entries)
            self._agenda.append(Item(change.at_ms, What.CHANGE, number, text=text))
        for number, order in enumerate(self.orders):
            self._agenda.append(Item(order.place_ms, What.PLACE, number, order))
        self._agenda += [Item(self.kill_ms, What.KILL), Item(self.outage[0], What.OUTAGE)]
        heapq.heapify(self._agenda)

    def _spec(self, entry: Entry) -> JobSpec:
        return JobSpec(
            f"{entry.package} {entry.number}", cron_entry, cron=entry.expression,
            start=from_ms(self.day.start_ms), timezone=entry.zone, args=[entry.package, entry.number],
            job_id=entry.job_id, tags=["debian", entry.package],
            coalesce=entry.coalesce, misfire_grace_time=entry.grace_s, result_ttl=0,
        )  # fmt: skip

    async def _play(self, item: Item) -> None:
        story = self.story
        match item.what:
            case What.TICK | What.STEP_DUE:
                kills = item.at_ms == self.kill_ms and item.what is What.TICK
                await self._move_to(item.at_ms, wait=not kills)
                if item.what is What.TICK and not kills:
                    await self._pace.after_step(self._ticks_left())
            case What.CHANGE:
                story.say(item.text, "clock")
                await self._let_read()
            case What.TALLY:
                story.say(f"{self.tally.accounted:,} of {len(self._fires):,} fires are accounted for.")
            case What.PLACE:
                await self._place(item)
            case What.CANCEL:
                await self._cancel(item)
                await self._let_read()
            case What.KILL:
                await self._kill()
                await self._let_read()
            case What.OUTAGE:
                await self._outage()
                await self._let_read()
        self.fleet.check()

    # -- time -----------------------------------------------------------------------------------------------------

    async def _now_ms(self) -> int:
        return to_ms(await self._scheduler.now())

    async def _move_to(self, at_ms: int, *, wait: bool = True) -> None:
        """Move the fleet to an instant, and wait until everything due by then is settled."""
        await self._kit.travel_to(from_ms(at_ms))
        self.story.now_ms = max(at_ms, self.story.now_ms)
        self.story.due = bisect_right(self._fires, at_ms)
        if wait:
            await self._quiet()

    def _pending(self) -> tuple[int, int]:
        """Numbers of fires and of order steps that are due and have no known outcome yet."""
        tally = self.tally
        steps = sum(
            step.upto_ms <= self.story.now_ms and step.job_id not in tally.settled
            for order in self.orders
            for step in order.steps
        )
        return self.story.due - tally.accounted - self._given_up, steps

    async def _quiet(self) -> None:
        def over() -> bool:
            fires, steps = self._pending()
            return fires <= 0 and steps <= 0

        deadline = time.monotonic() + PATIENCE_S
        while not await self.tally.until(over, 1.0):
            self.fleet.check()
            if time.monotonic() > deadline:
                fires, steps = self._pending()
                self.story.say(f"{fires} fires and {steps} order steps did not settle in time; going on.", "trouble")
                self._given_up += max(0, fires)
                return

    # -- orders ---------------------------------------------------------------------------------------------------

    async def _place(self, item: Item) -> None:
        order = item.order
        assert order is not None
        await schedule_order_workflow(self._scheduler, order, self._now_ms)
        self.story.now_ms = max(self.story.now_ms, order.steps[0].upto_ms)
        self.story.say(f"Mario's Pizzeria: {order.order_id} arrives; its five steps are due within 35 minutes.")
        for step in order.steps[1:]:
            if not self.outage[0] < step.upto_ms <= self.outage[1]:
                heapq.heappush(self._agenda, Item(step.upto_ms, What.STEP_DUE, item.number))
        if order.cancelled:
            at_ms = order.steps[0].upto_ms + 20 * MINUTE_MS
            heapq.heappush(self._agenda, Item(at_ms, What.CANCEL, item.number, order))
        await self._quiet()

    async def _cancel(self, item: Item) -> None:
        order = item.order
        assert order is not None
        await self._move_to(item.at_ms)
        order.ended = await self._scheduler.cancel_jobs(tag=order.order_id)
        self.story.say(
            f"{order.order_id} is cancelled after 20 minutes: its last {len(order.ended)} steps must not run."
        )

    # -- faults ---------------------------------------------------------------------------------------------------

    def _held_by(self, member: Member) -> list[str]:
        return [job_id for job_id, worker in self.tally.held.items() if worker == member.worker_id]

    def _done_by(self, member: Member) -> set[str]:
        """Jobs whose work this member did in the minute of the kill."""
        return {e.job_id for e in read(self.ledger) if e.fire_ms == self.kill_ms and e.pid == member.pid}

    async def _kill(self) -> None:
        """Kill the worker that holds the most runs. The runs of this minute are slow, so that it does hold some."""
        fires = Counter(self._fires)[self.kill_ms]
        room = CONCURRENCY * len(self.fleet.working)
        await self.tally.until(lambda: bool(self.tally.held), PATIENCE_S)
        await self.tally.until(lambda: len(self.tally.held) >= min(fires, room), SLOW_S * 0.6)
        victim = max(self.fleet.working, key=lambda member: len(self._held_by(member)))
        for _ in range(10):  # its runs may only just have started
            if not self._done_by(victim):
                await asyncio.sleep(SLOW_S * 0.02)
        held = self._held_by(victim)
        await self.fleet.kill(victim)
        done = self._done_by(victim)
        self.story.say(
            f"SIGKILL for {victim.name} (pid {victim.pid}) while it holds {len(held)} runs. "
            f"{len(done & set(held))} of them had done their work, but not yet reported it.",
            "trouble",
        )
        substitute = await self.fleet.start()
        self.story.say(f"{substitute.name} (pid {substitute.pid}) takes its place.")
        await self._quiet()
        self.story.say(
            f"{len(self.tally.recovered)} runs of the dead worker were recovered when their lease of {LEASE_S:g} s "
            "expired: they run elsewhere, each with a higher fencing token.",
            "good",
        )

    async def _outage(self) -> None:
        """Stop all workers for three hours of the fleet's time."""
        story, (since_ms, until_ms) = self.story, self.outage
        story.say("Outage: all workers are stopped (SIGTERM; each finishes the runs it holds).", "trouble")
        await self.fleet.stop()
        before = Counter(self.tally.counts)
        await self._kit.travel_to(from_ms(until_ms))
        story.now_ms = until_ms
        story.due = bisect_right(self._fires, until_ms)
        passed = story.due - bisect_right(self._fires, since_ms)
        story.say(f"Three hours later {passed:,} fires are overdue. The workers start again.")
        await self.fleet.start_many(self.settings.workers)
        await self._quiet()
        counts = self.tally.counts - before
        story.say(
            f"Caught up: {counts['done']:,} ran late, {counts['coalesced']:,} were coalesced into a newer fire, "
            f"{counts['missed']:,} were missed (later than misfire_grace_time), as each job's options say.",
            "good",
        )

    async def _let_read(self) -> None:
        """Pause, so that an onlooker can read the last line."""
        await asyncio.sleep(min(2.0, 0.03 * self.settings.seconds))

    def _ticks_left(self) -> int:
        now_ms = self.story.now_ms
        gone_ms = max(0, self.outage[1] - max(now_ms, self.outage[0]))
        return (self.day.end_ms - now_ms - gone_ms) // MINUTE_MS

    # -- the end --------------------------------------------------------------------------------------------------

    async def _close(self) -> Report:
        await self.fleet.stop()
        self.story.now_ms = self.day.end_ms
        self.story.say("The day is over. Comparing the independent list, the tasks' ledger and redsched's events.")
        events: Sequence[Event] = await self._scheduler.get_history(limit=EVENTS_MAX)
        account = make_account(self.entries, self.orders, read(self.ledger), spans_of(events), self.outage)
        workers = [WorkerLine(m.name, m.pid, m.state, self.tally.runs[m.worker_id]) for m in self.fleet.members]
        return Report(account, self.day, workers, time.monotonic() - self._began)
