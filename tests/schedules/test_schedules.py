"""What every schedule promises: neighbours, counts, jitter, the wire; and what each kind does on its own."""

from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsched import schedules as schedules_module
from redsched.errors import InvalidScheduleError
from redsched.schedules import (
    AnyOf,
    CronSchedule,
    DateSchedule,
    IntervalSchedule,
    parse_timezone,
    schedule_from_wire,
)
from redsched.schedules.base import MAX_MS
from redsched.schedules.combine import MAX_MEMBERS

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
T0 = 1_774_742_400_000  # 2026-03-29T00:00Z, an hour before the gap in Berlin

bounds = st.none() | st.integers(-3 * DAY, 3 * DAY).map(lambda n: T0 + n)
jitters = st.sampled_from([0, 1, 30 * SECOND, 2 * HOUR, 400 * DAY])
seeds = st.sampled_from(["", "job-1", "job-2"])
intervals = st.builds(
    IntervalSchedule,
    st.integers(1, 5).map(lambda n: n * 37 * MINUTE + 11),
    st.integers(-DAY, DAY).map(lambda n: T0 + n),
    st.none() | st.integers(1, 3).map(lambda n: T0 + n * DAY + 5),
    jitter_ms=jitters,
    anchor_ms=bounds,
    seed=seeds,
)
crons = st.builds(
    CronSchedule,
    st.sampled_from(
        ["30 2 * * *", "0 */3 * * *", "*/45 * * * *", "0 8 * * 1-5", "15 2,3 * * *", "0 0 1 * *", "0 0 L * *",
         "0 3 15W * *", "0 4 * * sun#5", "0 9 13 * 5", "0 1 * * * 10,40"]
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.sampled_from(["shift", "skip"]),
    st.sampled_from(["first", "last", "both"]),
    st.none() | st.integers(-3 * DAY, 0).map(lambda n: T0 + n),
    st.none() | st.integers(0, 3 * DAY).map(lambda n: T0 + n),
    jitters,
    seeds,
)  # fmt: skip
dates = st.builds(DateSchedule, st.integers(T0 - DAY, T0 + DAY), st.just("UTC"), bounds)
single = st.one_of(intervals, crons, dates)
schedules = st.one_of(single, st.lists(single, min_size=1, max_size=3).map(lambda them: AnyOf(tuple(them))))
moments = st.integers(T0 - 4 * DAY, T0 + 4 * DAY)


def listed(schedule, first, last):
    found, at = [], schedule.next(first - 1)
    while at is not None and at <= last:
        found.append(at)
        at = schedule.next(at)
    return found


# --- all schedules ----------------------------------------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
@given(schedules, moments)
def test_the_fire_after_an_instant_is_the_last_one_when_it_comes(schedule, at):
    after = schedule.next(at)
    if after is not None:
        assert after > at
        assert schedule.last(after) == after
        before = schedule.last(after - 1)
        assert before is None or before <= at
        assert schedule.count(after, after) == 1


@settings(max_examples=500, deadline=None)
@given(schedules, moments)
def test_the_fire_before_an_instant_is_followed_by_none_up_to_it(schedule, at):
    before = schedule.last(at)
    following = schedule.next(-(10**14) if before is None else before)
    assert following is None or following > at
    if before is not None:
        assert before <= at
        assert schedule.next(before - 1) == before


@settings(max_examples=300, deadline=None)
@given(schedules, moments, st.integers(0, 2 * DAY))
def test_a_count_is_the_number_of_the_fires_listed(schedule, first, length):
    counted = schedule.count(first, first + length)
    if counted is None:
        assert isinstance(schedule, AnyOf)
    else:
        assert counted == len(listed(schedule, first, first + length))


@settings(max_examples=300, deadline=None)
@given(schedules)
def test_a_schedule_survives_the_wire(schedule):
    again = schedule_from_wire(msgpack.unpackb(msgpack.packb(schedule.to_wire())))
    assert again == schedule and hash(again) == hash(schedule)
    assert again.to_wire() == schedule.to_wire()
    assert schedule_from_wire(schedule.to_wire()) is schedule_from_wire(again.to_wire())
    assert isinstance(again.describe(), str)


# --- jitter -----------------------------------------------------------------------------------------------------------


def test_jitter_delays_each_fire_within_its_bound_and_never_drifts():
    plain = IntervalSchedule(MINUTE, T0)
    jittered = IntervalSchedule(MINUTE, T0, jitter_ms=20 * SECOND, seed="job")
    delays = [at - base for at, base in zip(listed(jittered, T0, T0 + DAY), listed(plain, T0, T0 + DAY), strict=False)]
    assert len(delays) == 1440 or len(delays) == 1441
    assert 0 <= min(delays) < 2 * SECOND and 18 * SECOND < max(delays) <= 20 * SECOND


def test_jitter_longer_than_the_period_keeps_the_order_and_skips_nothing():
    jittered = IntervalSchedule(SECOND, T0, jitter_ms=HOUR, seed="job")
    fires = listed(jittered, T0, T0 + 100 * SECOND)
    assert [fire // SECOND for fire in fires] == list(range(T0 // SECOND, T0 // SECOND + 100))


def test_jitter_is_the_same_each_time_and_another_one_for_another_job():
    one, two = (CronSchedule("0 * * * *", jitter_ms=HOUR).with_seed(seed) for seed in ("one", "two"))
    assert listed(one, T0, T0 + DAY) == listed(CronSchedule("0 * * * *", jitter_ms=HOUR, seed="one"), T0, T0 + DAY)
    assert listed(one, T0, T0 + DAY) != listed(two, T0, T0 + DAY)


def test_jitter_does_not_pass_the_end():
    jittered = IntervalSchedule(HOUR, T0, T0 + HOUR + 5, jitter_ms=30 * MINUTE, seed="x")
    assert listed(jittered, T0, T0 + DAY)[-1] <= T0 + HOUR + 5
    assert jittered.count(T0, T0 + DAY) == 2


def test_a_schedule_without_jitter_is_shared_by_all_jobs():
    schedule = CronSchedule("0 8 * * *")
    assert schedule.with_seed("job") is schedule


# --- date, interval, union --------------------------------------------------------------------------------------------


def test_a_date_starts_with_its_run_date_even_when_that_is_past():
    date = DateSchedule(T0)
    assert date.first(T0 + DAY) == T0
    assert date.next(T0 - 1) == T0 and date.next(T0) is None
    assert date.rebased(T0 + 9).next(0) == T0 + 9 and date.rebased(T0 + 9).unbased() == date


def test_an_interval_starts_on_its_grid_at_or_after_now():
    interval = IntervalSchedule(10 * MINUTE, T0)
    assert interval.first(T0 - DAY) == T0
    assert interval.first(T0 + 10 * MINUTE) == T0 + 10 * MINUTE
    assert interval.first(T0 + 10 * MINUTE + 1) == T0 + 20 * MINUTE


def test_an_interval_rebased_counts_from_there_and_unbased_from_its_start_again():
    interval = IntervalSchedule(10 * MINUTE, T0)
    rebased = interval.rebased(T0 + MINUTE)
    assert rebased.next(T0 + MINUTE) == T0 + 11 * MINUTE
    assert rebased.unbased() == interval


def test_a_day_long_interval_is_86400_seconds_whatever_the_clock_does():
    interval = IntervalSchedule(DAY, T0, timezone="Europe/Berlin")
    assert interval.next(T0) == T0 + DAY


def test_a_union_fires_once_where_its_members_meet():
    union = AnyOf((IntervalSchedule(2 * MINUTE, T0), IntervalSchedule(3 * MINUTE, T0)))
    assert [at - T0 for at in listed(union, T0, T0 + 6 * MINUTE)] == [n * MINUTE for n in (0, 2, 3, 4, 6)]
    assert union.count(T0, T0 + 6 * MINUTE) == 5
    assert union.count(T0, T0 + 300 * DAY) is None


def test_a_union_goes_on_when_a_member_has_ended():
    union = AnyOf((DateSchedule(T0), CronSchedule("0 0 * * *")))
    assert union.first(T0 + 1) == T0 + DAY
    assert union.count(T0 + 1, T0 + 1000 * DAY) == 1000


def test_nothing_fires_beyond_the_calendar():
    assert CronSchedule("0 0 * * *").next(MAX_MS) is None
    assert IntervalSchedule(DAY, T0).next(MAX_MS) is None
    assert CronSchedule("0 0 29 2 *", "Asia/Tokyo").next(MAX_MS - 300 * DAY) is None
    assert CronSchedule("* * * * *").last(10**18) is not None


# --- descriptions, refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (CronSchedule(" 0  8 * * * ", "Europe/Berlin"), "cron 0 8 * * * (Europe/Berlin)"),
        (IntervalSchedule(5 * MINUTE, T0), "every 5 minutes"),
        (
            IntervalSchedule(90 * MINUTE, T0, jitter_ms=1500),
            "every 1 hour 30 minutes, jitter up to 1 second 500 milliseconds",
        ),
        (IntervalSchedule(DAY, T0, T0), "every 1 day, until 2026-03-29T00:00:00Z"),
        (DateSchedule(T0, "Europe/Berlin"), "at 2026-03-29T01:00:00+01:00 (Europe/Berlin)"),
        (AnyOf((CronSchedule("@daily"), IntervalSchedule(1, T0))), "cron @daily (UTC) or every 1 millisecond"),
    ],
    ids=["cron", "interval", "jitter", "end", "date", "union"],
)
def test_a_schedule_describes_itself(schedule, text):
    assert schedule.describe() == str(schedule) == text


@pytest.mark.parametrize(
    ("make", "field", "says"),
    [
        (lambda: IntervalSchedule(0, T0), "interval_ms", "at least 1"),
        (lambda: IntervalSchedule(1.5, T0), "interval_ms", "float"),
        (lambda: IntervalSchedule(True, T0), "interval_ms", "bool"),
        (lambda: IntervalSchedule(1, T0, T0 - 1), "end_ms", "never fires"),
        (lambda: IntervalSchedule(1, T0, jitter_ms=-1), "jitter_ms", "at least 0"),
        (lambda: IntervalSchedule(1, None), "start_ms", "NoneType"),
        (lambda: DateSchedule("tomorrow"), "run_ms", "str"),
        (lambda: DateSchedule(T0, "Europe/Berln"), "timezone", "Europe/Berlin"),
        (lambda: CronSchedule(5), "expression", "int"),
        (lambda: CronSchedule("* * * * *", dst_gap="jump"), "dst_gap", "shift, skip"),
        (lambda: CronSchedule("* * * * *", dst_fold="twice"), "dst_fold", "first, last, both"),
        (lambda: CronSchedule("* * * * *", start_ms=5, end_ms=4), "end_ms", "never fires"),
        (lambda: AnyOf(()), "schedules", "at least one"),
        (lambda: AnyOf(("0 8 * * *",)), "schedules", "not a schedule"),
        (lambda: schedule_from_wire(["lunar", 1]), "schedule", "'lunar' is not known"),
        (lambda: schedule_from_wire([]), "schedule", "not known"),
        (lambda: schedule_from_wire(["any", "date"]), "schedule", "not known"),
        (lambda: schedule_from_wire(["interval", 1]), "schedule", "start_ms"),
        (lambda: schedule_from_wire(["date", {}]), "schedule", "unhashable"),
        (lambda: schedule_from_wire("cron"), "schedule", "list"),
        (lambda: schedule_from_wire(["date", 1, "UTC", None, 5]), "schedule", "parts"),
        (lambda: schedule_from_wire(["date", 1, ["UTC"]]), "timezone", "tuple"),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(make, field, says):
    with pytest.raises(InvalidScheduleError) as caught:
        make()
    assert caught.value.field == field
    assert says in str(caught.value)


def test_a_wire_nested_without_end_is_refused():
    wire = ["date", 1, "UTC"]
    for _ in range(100):
        wire = ["any", [wire]]
    with pytest.raises(InvalidScheduleError):
        schedule_from_wire(wire)


# --- zones ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (None, "Asia/Tokyo"),
        ("Europe/Berlin", "Europe/Berlin"),
        (ZoneInfo("America/New_York"), "America/New_York"),
        (UTC, "UTC"),
        (timezone(timedelta(hours=2)), "Etc/GMT-2"),
        (timezone(timedelta(hours=-3)), "Etc/GMT+3"),
    ],
    ids=["default", "name", "zoneinfo", "utc", "east", "west"],
)
def test_a_time_zone_is_taken_in_each_usual_form(value, key):
    assert parse_timezone(value, "Asia/Tokyo") == key


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("Berlin", "Europe/Berlin"),
        ("US/Pacfic", "US/Pacific"),
        ("New York", "America/New_York"),
        ("Middle/Earth", "IANA"),
        ("", "IANA"),
        ("../etc/passwd", "IANA"),
        ("localtime", "no time zone of that name"),
        ("Europe", "no time zone of that name"),
        (3, "int"),
    ],
)
def test_an_unknown_time_zone_is_refused_with_close_matches(value, says):
    with pytest.raises(InvalidScheduleError, match="zone") as caught:
        parse_timezone(value, "UTC", field="zone")
    assert caught.value.field == "zone" and says in str(caught.value)


def test_a_schedule_has_so_few_members_that_it_can_be_asked_at_every_fire() -> None:
    daily = [CronSchedule(f"{minute} 3 * * *") for minute in range(60)]
    most = AnyOf((AnyOf(tuple(daily)), *daily[: MAX_MEMBERS - 60]))
    assert schedule_from_wire(most.to_wire()) == most
    with pytest.raises(InvalidScheduleError, match=f"65 schedules are combined; at most {MAX_MEMBERS}"):
        AnyOf((most, daily[0]))


def test_a_stored_schedule_of_thousands_of_members_is_refused_before_one_is_built() -> None:
    expressions = [["cron", f"{n % 60} {n // 60 % 24} {n // 1440 + 1} * *"] for n in range(5000)]
    built = schedules_module._from_wire.cache_info().misses
    for wire in (["any", expressions], ["any", [["any", expressions]]], ["any", [["any", []]] * 5000]):
        with pytest.raises(InvalidScheduleError, match="at most"):
            schedule_from_wire(wire)
    assert schedules_module._from_wire.cache_info().misses == built
