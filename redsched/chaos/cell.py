"""One fault, from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redsched import BackgroundTaskScheduler, StoreError
from redsched.chaos.clock import Clock
from redsched.chaos.evidence import Evidence, Verdict, percentile
from redsched.chaos.faults import Fault, Unavailable
from redsched.chaos.given import Given
from redsched.chaos.place import Place
from redsched.chaos.producer import LOOK_S, produce, sample_clock
from redsched.chaos.verdict import judge
from redsched.chaos.wishes import make_wishes
from redsched.chaos.worker import EVENTS_MAX
from redsched.testing import ledger

__all__ = ["Outcome", "run_fault"]

PATIENCE_S = 40.0
"""How long a caller sends a request again."""
QUIET_S = 60.0
"""How long after the load everything may take to come to its end."""
CHILD_STARTS_S = 2.0
"""How much longer a recovery may take where the worker that takes over has to start a child process first."""
OPEN_STATES = ("scheduled", "running")

Look = Callable[[BackgroundTaskScheduler], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """The result of one fault."""

    fault: type[Fault]
    seed: int
    jobs: int
    skipped: str | None = None
    """Why the fault was not made."""
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list[str])
    """What is wrong beside the columns of the verdict."""
    seconds: float = 0.0
    quiet_s: float = 0.0
    """Seconds from the end of the load until everything had ended."""
    moments: int = 0

    @property
    def violations(self) -> list[str]:
        """The violations, in words, without those that cannot be avoided under this fault."""
        kept = [
            f"{column}: {text}"
            for column, texts in self.verdict.problems.items()
            if column not in self.fault.cannot_keep
            for text in texts
        ]
        return kept + self.problems


async def run_fault(
    kind: type[Fault],
    *,
    seed: int,
    jobs: int,
    rate: float,
    shortest_s: float,
    binary: str | Given,
    look: Look | None = None,
    slack: float = 1.0,
) -> Outcome:
    """Make one fault.

    Args:
        rate: how many jobs are submitted in a second, at most.
        shortest_s: seconds that the load lasts at least.
        binary: the server's program; or a server that is there, of which one prefix is used.
        look: called once all is quiet, before anything is taken down.
        slack: how many times as long as promised a recovery may take, on a machine that does other things as well.

    Raises:
        FleetError: a worker ended by itself, or never started.
    """
    fault = kind()
    outcome = Outcome(kind, seed, jobs)
    began = time.monotonic()
    try:
        fault.check()
    except Unavailable as missing:
        outcome.skipped = str(missing)
        return outcome
    if isinstance(binary, Given) and kind.layout.proxied and (why := binary.why_not_proxied()):
        outcome.skipped = why
        return outcome
    with tempfile.TemporaryDirectory(prefix="redsched-chaos-") as name:
        folder = Path(name)
        rng = random.Random(f"{seed} {kind.name}")  # the same faults again by the same seed  # nosec B311
        seconds = max(shortest_s, kind.at_least_s, jobs / rate * kind.slower)
        async with Place(fault.place_layout(folder), folder, binary, rng) as place:
            await _load(place, fault, outcome, seconds, look, slack)
    outcome.seconds = time.monotonic() - began
    return outcome


@asynccontextmanager
async def _scheduler(url: str, place: Place, retry_for: float) -> AsyncGenerator[BackgroundTaskScheduler]:
    scheduler = BackgroundTaskScheduler(
        url, place.prefix, lease=place.lease_s, events_max=EVENTS_MAX, retry_for=retry_for, declared_tasks=False
    )
    try:
        await scheduler.start(worker=False)
        yield scheduler
    finally:
        await scheduler.shutdown()


async def _watch_clock(place: Place, samples: list[tuple[float, int]]) -> None:
    """Past the proxy: what the server that counts says, whatever clients see."""
    watchers: dict[str, BackgroundTaskScheduler] = {}
    try:
        while True:
            url = place.direct_url
            if url not in watchers:
                watchers[url] = BackgroundTaskScheduler(url, place.prefix, retry_for=0.0, declared_tasks=False)
            await sample_clock(watchers[url], samples)
            place.fleet.check()
            await asyncio.sleep(LOOK_S if len(samples) > 20 else 0.005)
    finally:
        for watcher in watchers.values():
            await watcher.shutdown()


@asynccontextmanager
async def _watched_clock(place: Place, samples: list[tuple[float, int]]) -> AsyncGenerator[asyncio.Task[None]]:
    watching = asyncio.create_task(_watch_clock(place, samples))
    try:
        yield watching
    finally:  # before anything is stopped: missing answers are expected then
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _load(place: Place, fault: Fault, outcome: Outcome, seconds: float, look: Look | None, slack: float) -> None:
    wishes = make_wishes(outcome.seed, outcome.jobs, seconds, fault.known_by_few)
    samples: list[tuple[float, int]] = []
    async with (
        _scheduler(place.url, place, PATIENCE_S) as scheduler,
        _watched_clock(place, samples) as watching,
    ):
        await asyncio.sleep(0.3)
        place.over = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            producing = group.create_task(produce(scheduler, wishes, place.rng))
            group.create_task(fault.strike(place))
        outcome.problems += producing.result()
        loaded = time.monotonic()
        async with _scheduler(place.direct_url, place, PATIENCE_S) as observer:
            await _quiet(observer, watching)
            outcome.quiet_s = time.monotonic() - loaded
            outcome.problems += await fault.verify(place)
            if look is not None:
                await look(observer)
            await place.fleet.stop()
            if watching.done():
                watching.result()
            evidence = Evidence(
                wishes=wishes,
                executions=ledger.executions(ledger.read(place.ledger)),
                events=await observer.get_history(limit=100 * outcome.jobs + 100_000),
                stored={job.id: job.state.value for job in await observer.get_jobs()},
                clock=Clock(samples),
                moments=place.moments,
                killed={member.pid: member.ended for member in place.fleet.members if member.ended is not None},
            )
    outcome.verdict = judge(evidence)
    outcome.problems += fault.examine(evidence)
    outcome.moments = len(place.moments)
    if fault.recovers_in_s is not None:
        for times, limit in (
            (outcome.verdict.recoveries, fault.recovers_in_s),
            (outcome.verdict.in_children, fault.recovers_in_s + CHILD_STARTS_S),
        ):
            if times and (slow := percentile(sorted(times), 0.99)) > limit * slack:
                outcome.problems.append(f"recovery took {slow:.2f} s (p99), and may take {limit:g} s")


async def _quiet(observer: BackgroundTaskScheduler, watching: asyncio.Task[None]) -> None:
    """Wait until every job has come to its end, or for as long as it may take."""
    until = time.monotonic() + QUIET_S
    while time.monotonic() < until:
        if watching.done():
            watching.result()  # a worker ended by itself
        with contextlib.suppress(StoreError):
            jobs = await observer.get_jobs()
            if not any(job.state in OPEN_STATES for job in jobs):
                return
        await asyncio.sleep(0.3)
