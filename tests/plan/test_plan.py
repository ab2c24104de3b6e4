"""plan(): what becomes of the fires that are due."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsched.schedules import AnyOf, CronSchedule, DateSchedule, IntervalSchedule, Schedule
from redsched.schedules.plan import Plan, Span, first_fires, is_misfire, plan

SECOND, MINUTE, HOUR, YEAR = 1000, 60_000, 3_600_000, 365 * 86_400_000
T0 = 1_780_272_000_000  # 2026-06-01T00:00Z
EVERY_MINUTE = IntervalSchedule(MINUTE, T0)


@dataclass
class Job:
    schedule: Schedule | None = EVERY_MINUTE
    next_run_time: int | None = T0
    coalesce: bool = True
    misfire_grace_ms: int | None = None
    max_instances: int = 1
    runs_left: int | None = None


def minutes(*numbers):
    return tuple(T0 + number * MINUTE for number in numbers)


# --- collect, coalesce ------------------------------------------------------------------------------------------------


def test_a_fire_exactly_now_runs_and_the_next_two_are_named():
    assert plan(Job(), T0) == Plan((T0,), next_run_time=T0 + MINUTE, following=T0 + 2 * MINUTE)


def test_a_job_that_is_not_due_is_left_as_it_is():
    assert plan(Job(), T0 - 1) == Plan(next_run_time=T0, following=T0 + MINUTE)


def test_a_paused_job_has_no_plan():
    assert plan(Job(next_run_time=None), T0) == Plan()


def test_a_job_without_a_schedule_fires_once():
    assert plan(Job(schedule=None), T0 + 5) == Plan((T0,))


def test_of_several_due_fires_coalesce_runs_the_newest_and_records_the_rest():
    found = plan(Job(), T0 + 3 * MINUTE + 1)
    assert found.fires == minutes(3)
    assert found.coalesced == Span(T0, T0 + 2 * MINUTE, 3)
    assert found.next_run_time == T0 + 4 * MINUTE


def test_without_coalesce_all_due_fires_run_in_order():
    found = plan(Job(coalesce=False), T0 + 3 * MINUTE + 1)
    assert found == Plan(minutes(0, 1, 2, 3), next_run_time=T0 + 4 * MINUTE, following=T0 + 5 * MINUTE)


# --- max_instances, misfire -------------------------------------------------------------------------------------------


def test_the_whole_batch_is_refused_when_too_many_instances_run():
    found = plan(Job(coalesce=False, max_instances=2), T0 + 2 * MINUTE, running=2)
    assert found == Plan(skipped=Span(T0, T0 + 2 * MINUTE, 3), next_run_time=T0 + 3 * MINUTE, following=T0 + 4 * MINUTE)


def test_one_instance_below_the_limit_runs_however_long_the_batch():
    assert len(plan(Job(coalesce=False, max_instances=2), T0 + 5 * MINUTE, running=1).fires) == 6


def test_max_instances_is_checked_after_coalescing_and_before_the_grace():
    found = plan(Job(misfire_grace_ms=1), T0 + 2 * MINUTE + 500, running=1)
    assert found.coalesced == Span(T0, T0 + MINUTE, 2)
    assert found.skipped == Span(T0 + 2 * MINUTE, T0 + 2 * MINUTE, 1)
    assert found.missed is None


@pytest.mark.parametrize(("late_ms", "ran"), [(30_000, True), (30_001, False)], ids=["at-the-grace", "1-ms-later"])
def test_a_fire_is_missed_strictly_later_than_the_grace(late_ms, ran):
    found = plan(Job(misfire_grace_ms=30_000), T0 + late_ms)
    assert found.fires == ((T0,) if ran else ())
    assert found.missed == (None if ran else Span(T0, T0, 1))
    assert is_misfire(T0, T0 + late_ms, 30_000) is not ran
    assert not is_misfire(T0, T0 + YEAR, None)


def test_the_misfired_fires_are_told_apart_from_those_in_time():
    found = plan(Job(coalesce=False, misfire_grace_ms=2 * MINUTE), T0 + 5 * MINUTE)
    assert found.missed == Span(T0, T0 + 2 * MINUTE, 3)
    assert found.fires == minutes(3, 4, 5)


def test_coalesce_tests_only_the_newest_against_the_grace():
    found = plan(Job(misfire_grace_ms=10), T0 + 5 * MINUTE + 11)
    assert found.coalesced == Span(T0, T0 + 4 * MINUTE, 5)
    assert found.missed == Span(T0 + 5 * MINUTE, T0 + 5 * MINUTE, 1)
    assert found.fires == () and found.next_run_time == T0 + 6 * MINUTE


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_max_catch_up_keeps_the_newest_and_records_what_it_cut():
    found = plan(Job(coalesce=False), T0 + 9 * MINUTE, max_catch_up=3)
    assert found.fires == minutes(7, 8, 9)
    assert found.cut == Span(T0, T0 + 6 * MINUTE, 7)


def test_catch_up_of_exactly_the_limit_cuts_nothing():
    found = plan(Job(coalesce=False), T0 + 2 * MINUTE, max_catch_up=3)
    assert found.fires == minutes(0, 1, 2) and found.cut is None


class Counting(Schedule):
    """Counts what is asked of it."""

    def __init__(self, inner):
        self.inner, self.timezone, self.calls = inner, inner.timezone, 0

    def _ask(self, name, *args):
        self.calls += 1
        return getattr(self.inner, name)(*args)

    def first(self, now_ms):
        return self._ask("first", now_ms)

    def next(self, after_ms):
        return self._ask("next", after_ms)

    def last(self, upto_ms):
        return self._ask("last", upto_ms)

    def count(self, first_ms, last_ms):
        return self._ask("count", first_ms, last_ms)

    def describe(self):
        return self.inner.describe()

    def to_wire(self):
        return self.inner.to_wire()


@pytest.mark.parametrize("coalesce", [True, False], ids=["coalesce", "catch-up"])
@pytest.mark.parametrize("running", [0, 1], ids=["free", "busy"])
@pytest.mark.parametrize("grace_ms", [None, 10 * SECOND], ids=["no-grace", "grace"])
@pytest.mark.parametrize(
    "inner", [IntervalSchedule(SECOND, T0), CronSchedule("* * * * * *"), CronSchedule("* * * * *", jitter_ms=100)],
    ids=["interval", "cron-seconds", "cron-jitter"],
)  # fmt: skip
def test_a_year_of_missed_fires_costs_as_many_calls_as_a_minute(inner, coalesce, running, grace_ms):
    calls = []
    for outage in (MINUTE + 100, YEAR + 100):
        schedule = Counting(inner)
        job = Job(schedule, inner.next(T0), coalesce, grace_ms)
        found = plan(job, T0 + outage, running=running, max_catch_up=10)
        spans = [span for span in (found.missed, found.coalesced, found.skipped, found.cut) if span]
        assert all(span.count is not None for span in spans)
        total = sum(span.count for span in spans) + len(found.fires)
        assert total == inner.count(job.next_run_time, T0 + outage)
        calls.append(schedule.calls)
    assert calls[1] <= max(calls[0], 30)


def test_runs_left_ends_the_schedule_with_its_last_run():
    assert plan(Job(runs_left=1), T0) == Plan((T0,))
    assert plan(Job(runs_left=2), T0) == Plan((T0,), next_run_time=T0 + MINUTE, following=None)
    assert plan(Job(runs_left=3), T0) == Plan((T0,), next_run_time=T0 + MINUTE, following=T0 + 2 * MINUTE)
    assert plan(Job(runs_left=0), T0) == Plan()


def test_runs_left_runs_the_oldest_of_the_overdue():
    assert plan(Job(coalesce=False, runs_left=2), T0 + 9 * MINUTE) == Plan(minutes(0, 1))


def test_runs_left_beyond_max_catch_up_leaves_the_rest_for_later():
    found = plan(Job(coalesce=False, runs_left=5), T0 + 9 * MINUTE, max_catch_up=3)
    assert found.fires == minutes(7, 8, 9) and found.cut == Span(T0, T0 + 6 * MINUTE, 7)
    assert found.next_run_time == T0 + 10 * MINUTE and found.following == T0 + 11 * MINUTE


def test_only_fires_that_run_count_against_runs_left():
    skipped = plan(Job(runs_left=1), T0 + 3 * MINUTE, running=1)
    assert skipped.skipped and skipped.next_run_time == T0 + 4 * MINUTE
    missed = plan(Job(runs_left=1, misfire_grace_ms=1), T0 + 3 * MINUTE + 2)
    assert missed.missed and missed.next_run_time == T0 + 4 * MINUTE


# --- the ends of a schedule, explicit next_run_time -------------------------------------------------------------------


def test_overdue_fires_up_to_the_end_still_run_and_then_the_schedule_is_over():
    schedule = IntervalSchedule(MINUTE, T0, T0 + 2 * MINUTE)
    found = plan(Job(schedule, coalesce=False), T0 + HOUR)
    assert found == Plan(minutes(0, 1, 2))


def test_a_date_ends_whatever_becomes_of_it():
    date = DateSchedule(T0)
    assert plan(Job(date), T0) == Plan((T0,))
    assert plan(Job(date, misfire_grace_ms=1), T0 + 2) == Plan(missed=Span(T0, T0, 1))
    assert plan(Job(date), T0, running=1) == Plan(skipped=Span(T0, T0, 1))


def test_an_explicit_next_run_time_fires_and_the_interval_counts_on_from_it():
    explicit = T0 + 17 * SECOND
    assert first_fires(EVERY_MINUTE, T0, explicit) == (explicit, explicit + MINUTE)
    found = plan(Job(EVERY_MINUTE.rebased(explicit), explicit, coalesce=False), T0 + 2 * MINUTE)
    assert found.fires == (explicit, explicit + MINUTE)
    assert found.next_run_time == explicit + 2 * MINUTE


def test_an_explicit_next_run_time_is_one_more_fire_of_a_cron_schedule():
    explicit, schedule = T0 + 17 * SECOND, CronSchedule("* * * * *")
    found = plan(Job(schedule.rebased(explicit), explicit, coalesce=False), T0 + MINUTE)
    assert found == Plan((explicit, T0 + MINUTE), next_run_time=T0 + 2 * MINUTE, following=T0 + 3 * MINUTE)
    merged = plan(Job(schedule, explicit), T0 + 2 * MINUTE)
    assert merged.coalesced == Span(explicit, T0 + MINUTE, 2)


def test_an_explicit_next_run_time_takes_the_place_of_a_date():
    assert first_fires(DateSchedule(T0 + HOUR), T0, T0 + 5) == (T0 + 5, None)


def test_an_explicit_next_run_time_with_jitter_fires_exactly_then_and_once():
    schedule = IntervalSchedule(MINUTE, T0, jitter_ms=20 * SECOND, seed="job").rebased(T0 + 7)
    found = plan(Job(schedule, T0 + 7, coalesce=False), T0 + 50 * SECOND)
    assert found.fires == (T0 + 7,) and found.next_run_time >= T0 + 7 + MINUTE


def test_first_fires_are_the_first_at_or_after_now():
    assert first_fires(EVERY_MINUTE, T0) == minutes(0, 1)
    assert first_fires(EVERY_MINUTE, T0 + 1) == minutes(1, 2)
    assert first_fires(IntervalSchedule(MINUTE, T0, T0), T0) == (T0, None)
    assert first_fires(IntervalSchedule(MINUTE, T0, T0), T0 + 1) == (None, None)


# --- a schedule that raises -------------------------------------------------------------------------------------------


class Broken(Counting):
    def __init__(self, *broken):
        super().__init__(EVERY_MINUTE)
        self.broken = broken

    def _ask(self, name, *args):
        if name in self.broken:
            raise ZoneVanished("no such zone")
        return super()._ask(name, *args)


class ZoneVanished(Exception):
    pass


def test_a_schedule_that_raises_ends_its_job_with_the_reason():
    assert plan(Job(Broken("last", "next")), T0) == Plan(error="ZoneVanished: no such zone")
    assert plan(Job(Broken("next")), T0 - 1).error == "ZoneVanished: no such zone"


def test_what_is_due_runs_even_when_the_schedule_cannot_tell_what_follows():
    assert plan(Job(Broken("next")), T0) == Plan((T0,), error="ZoneVanished: no such zone")


# --- against a plan that lists every fire -----------------------------------------------------------------------------


def listed_plan(job, now, running, max_catch_up):
    """SEMANTICS.md word for word, fire by fire: (ran, missed, coalesced, skipped, cut, next)."""
    due, at = [], job.next_run_time
    while at is not None and at <= now:
        due.append(at)
        at = job.schedule.next(at)
    batch, coalesced, missed, skipped, cut = due, [], [], [], []
    if job.coalesce:
        batch, coalesced = due[-1:], due[:-1]
    if batch and running >= job.max_instances:
        batch, skipped = [], batch
    missed = [fire for fire in batch if job.misfire_grace_ms is not None and now - fire > job.misfire_grace_ms]
    batch = [fire for fire in batch if fire not in missed]
    if job.runs_left is not None and job.runs_left <= max_catch_up:
        batch = batch[: job.runs_left]
        if len(batch) == job.runs_left:
            at = None
    elif len(batch) > max_catch_up:
        batch, cut = batch[-max_catch_up:], batch[:-max_catch_up]
    return batch, missed, coalesced, skipped, cut, at


schedules = st.one_of(
    st.builds(
        IntervalSchedule,
        st.integers(1, 5).map(lambda n: n * MINUTE + 3),
        st.just(T0),
        st.none() | st.integers(0, 40).map(lambda n: T0 + n * MINUTE),
        jitter_ms=st.sampled_from([0, 40 * SECOND, 3 * HOUR]),
        seed=st.sampled_from(["a", "b"]),
    ),
    st.sampled_from(
        [
            CronSchedule("*/2 * * * *"),
            CronSchedule("0,7,20-25 * * * *", "Asia/Kolkata", jitter_ms=90 * SECOND),
            DateSchedule(T0 + MINUTE),
            AnyOf((CronSchedule("*/3 * * * *"), IntervalSchedule(2 * MINUTE, T0), DateSchedule(T0 + 5))),
        ]
    ),
)


@settings(max_examples=600, deadline=None)
@given(
    schedules,
    st.none() | st.integers(-5, 5 * MINUTE).map(lambda n: T0 + n),
    st.booleans(),
    st.none() | st.integers(1, 20 * MINUTE),
    st.none() | st.integers(1, 12),
    st.integers(0, 30 * MINUTE),
    st.integers(0, 1),
    st.integers(1, 8),
)
def test_a_plan_is_what_listing_every_fire_would_give(
    schedule, explicit, coalesce, grace, runs_left, later, running, max_catch_up
):
    if explicit is not None:
        schedule = schedule.rebased(explicit)
    first = schedule.first(T0) if explicit is None else explicit
    job = Job(schedule, first, coalesce, grace, 1, runs_left)
    now = first + later
    found = plan(job, now, running=running, max_catch_up=max_catch_up)
    ran, missed, coalesced, skipped, cut, following = listed_plan(job, now, running, max_catch_up)
    assert list(found.fires) == ran
    assert found.next_run_time == following
    for span, fires in (
        (found.missed, missed),
        (found.coalesced, coalesced),
        (found.skipped, skipped),
        (found.cut, cut),
    ):
        assert span == (Span(fires[0], fires[-1], len(fires)) if fires else None)
