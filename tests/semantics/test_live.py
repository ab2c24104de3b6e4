"""The same cases on a live scheduler: a real server, a real worker, time moved by the testing kit.

Here time goes on while a case runs, so each step happens within the second that the case names, and instants are
compared by the second. Cases that turn on less than that are left to the pure plan, by rule.
"""

import asyncio
from datetime import datetime

import pytest

from redsched import BackgroundTaskScheduler, ConflictingIdError, InvalidInputError, JobLookupError, testing
from redsched.store.clock import from_ms, to_ms

from .harness import DEFAULTS, Outcome, expectation, ms, play
from .test_cases import APPLICABLE

JOB = "case"
ADD_MS, OPERATE_MS, WAKE_MS = 0, 500, 800  # within the second; a few milliseconds of real time pass as well


async def task():
    pass


def reason_not_live(case):
    """Why a case cannot be told apart on a running clock, or None."""
    if "running_instances" not in case:
        return "how long runs take is the case"
    for op in case.get("ops", []):
        if op["op"].startswith("scheduler_"):
            return "pauses the scheduler: here that is having no worker"
        if op["op"] == "modify" and "trigger" in op["changes"]:
            return "modifies the trigger alone: here reschedule_job"
    grace = DEFAULTS["misfire_grace_time"] if case["misfire_grace_time"] == "default" else case["misfire_grace_time"]
    fires = {ms(f) for wake in case["expected"] for name in ("ran", "missed") for f in wake[name]}
    wakes = [ms(wake) for wake in case["wake_times"]]
    if grace is not None and any(0 <= fire + grace * 1000 - wake < 2000 for wake in wakes for fire in fires):
        return "turns on the last second of the grace"
    instants = [ms(op["at"]) for op in case.get("ops", [])]
    named = {ms(op["next_run"]) for op in case.get("op_results", [])} | {ms(case["first_run"])}
    if any(instant in named for instant in [*instants, ms(case["start"])]):
        return "turns on a fire at the very instant of the operation"
    if "." in str(case.get("next_run_time")) or case["trigger"].get("seconds", 1) < 1:
        return "turns on less than a second"
    trigger = case["trigger"]
    if trigger["type"] == "interval" and "end_date" in trigger and "start_date" not in trigger:
        return "turns on less than a second: the grid starts a moment after the case does, and ends with it"
    return None


LIVE = [case for case in APPLICABLE if reason_not_live(case) is None]


class LiveDriver:
    """A scheduler on a real server, whose clock starts where the case does."""

    def __init__(self, run, url):
        self.run = run
        self.scheduler = BackgroundTaskScheduler(url, testing.fresh_prefix(), declared_tasks=False)
        self.scheduler.register(task)
        self.kit = testing.Kit(self.scheduler)
        self.seen = 0
        self.job = None

    async def begin(self, at):
        # The kit never goes back; on a prefix that no script has seen yet, the offset may say anything.
        shard = (await self.scheduler.store()).shards[0]
        real = to_ms(await self.scheduler.now())
        await shard.link.command("DEL", shard.keys.clock)
        await shard.link.command("HSET", shard.keys.clock, "offset_ms", at - real)
        if self.case["trigger"]["type"] == "date" and any(self.case["running_instances"]):
            # So that the job is one of whose id there are instances already.
            await shard.link.command("ZADD", shard.keys.live(JOB), 1, "outside@0")
        await self.scheduler.now()  # what this process knows of the time is from before

    async def end(self):
        await self.scheduler.clear_all_jobs()
        await self.scheduler.shutdown()

    async def look(self):
        self.job = await self.scheduler.get_job(JOB)
        if self.job is not None and self.job.next_run_time is None and self.job.state != "paused":
            self.job = None  # it is over; only the instances that were set from outside keep its record

    @property
    def next_run(self):
        return None if self.job is None or self.job.next_run_time is None else to_ms(self.job.next_run_time)

    @property
    def job_state(self):
        if self.job is None or self.job.state == "dead":
            return "removed"
        return str(self.job.state)

    def add(self, case, now):
        self.case = case
        self.run(self.begin(now + ADD_MS))
        self.run(self.store())

    async def store(self, replace=False):
        case = self.case
        options = {name: default if case[name] == "default" else case[name] for name, default in DEFAULTS.items()}
        if case.get("next_run_time"):
            options["next_run_time"] = datetime.fromisoformat(case["next_run_time"])
        common = {"job_id": JOB, "timezone": case["timezone"], "replace_existing": replace, **options}
        match case["trigger"]:
            case {"type": "cron", "expr": expression}:
                await self.scheduler.schedule_cron("case", task, expression, **common)
            case {"type": "interval", "seconds": seconds, **bounds}:
                start, end = bounds.get("start_date"), bounds.get("end_date")
                await self.scheduler.schedule_interval("case", task, seconds, start=start, end=end, **common)
            case {"type": "date", **when}:
                at = when.get("run_date_local") or when["run_date"]
                await self.scheduler.schedule_at("case", task, at, **common)
        await self.look()

    def operate(self, op, now):
        return self.run(self._operate(op, now))

    async def _operate(self, op, now):
        await self.kit.travel_to(from_ms(now + OPERATE_MS))
        try:
            match op:
                case {"op": "readd"}:
                    await self.store(replace=op["replace_existing"])
                case {"op": "remove"}:
                    await self.scheduler.remove_job(JOB)
                case {"op": "pause"}:
                    await self.scheduler.pause_job(JOB)
                case {"op": "resume"}:
                    await self.scheduler.resume_job(JOB)
                case {"op": "reschedule", "trigger": trigger}:
                    when = {
                        "cron": trigger.get("expr"),
                        "interval": trigger.get("seconds"),
                        "run_at": trigger.get("run_date_local") or trigger.get("run_date"),
                    }
                    bounds = {"start": trigger.get("start_date"), "end": trigger.get("end_date")}
                    await self.scheduler.reschedule_job(JOB, **when, **{k: v for k, v in bounds.items() if v})
                case {"op": "modify", "changes": changes}:
                    await self.scheduler.modify_job(JOB, **changes)
        except (ConflictingIdError, InvalidInputError, JobLookupError) as error:
            await self.look()
            return type(error).__name__
        await self.look()
        return None

    def wake(self, now, running):
        return self.run(self._wake(now, running))

    async def _wake(self, now, running):
        await self.kit.travel_to(from_ms(now + WAKE_MS))
        shard = (await self.scheduler.store()).shards[0]
        outside = [f"outside@{n}" for n in range(running)]
        for member in outside:
            await shard.link.command("ZADD", shard.keys.live(JOB), 2**50, member)
        before = self.job
        await self.kit.run_due()
        for member in outside:
            await shard.link.command("ZREM", shard.keys.live(JOB), member)
        outcome = Outcome()
        events = await self.scheduler.get_history(JOB, limit=100_000)
        for event in events[self.seen :]:
            if event.kind == "dropped":
                continue  # APScheduler says nothing of what a pause hid
            fires = self.listed(event, before)
            match event.kind:
                case "done":
                    outcome.ran += fires
                case "missed":
                    outcome.missed += fires
                case "skipped":
                    outcome.max_instances_skipped += fires
                case "coalesced":
                    outcome.coalesced_away += fires
        self.seen = len(events)
        await self.look()
        return outcome

    def listed(self, event, before):
        """The fires of an event one by one, from the case's own instants (a span names its ends and its count)."""
        if event.fire_time is None:
            return []
        first, last = to_ms(event.fire_time), to_ms(event.last_fire_time or event.fire_time)
        if first == last:
            return [first]
        case_fires = sorted(
            {
                ms(f)
                for wake in self.case["expected"]
                for name in ("ran", "missed", "max_instances_skipped", "coalesced_away")
                for f in wake[name]
            }
        )
        within = [f for f in case_fires if first // 1000 <= f // 1000 <= last // 1000]
        assert event.count == len(within), f"{event.kind}: {event.count} fires counted, the case has {len(within)}"
        return within


def by_the_second(value):
    if isinstance(value, dict):
        return {key: by_the_second(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [by_the_second(each) for each in value]
    return value // 1000 if isinstance(value, int) and not isinstance(value, bool) and value > 10**11 else value


def test_most_cases_can_be_told_on_a_running_clock():
    assert len(LIVE) >= 70


@pytest.mark.parametrize("case", LIVE, ids=[case["id"] for case in LIVE])
def test_a_live_scheduler_does_what_apscheduler_did(case, redsched_url):
    with asyncio.Runner() as runner:
        driver = LiveDriver(runner.run, redsched_url)
        try:
            assert by_the_second(play(case, driver)) == by_the_second(expectation(case))
        finally:
            runner.run(driver.end())
