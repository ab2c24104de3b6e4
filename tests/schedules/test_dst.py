"""The DST rule of design.md, section 3, against brute force over minutes."""

import zoneinfo
from datetime import datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redsched.schedules import CronSchedule
from redsched.schedules.zones import Stretch, cut_into_pieces, instant_ms, local_datetime

from .brute import DAY, Clock, clock_around, matcher, minute_of, transitions, zone_offset

MINUTE_MS = 60_000


def fires(schedule, low, high):
    """The fires in minutes within [low, high), by next() alone."""
    found = []
    at = schedule.next(low * MINUTE_MS - 1)
    while at is not None and at < high * MINUTE_MS:
        found.append(at // MINUTE_MS)
        at = schedule.next(at)
    return found


def agree(zone, clock, expression, gap="shift", fold="first"):
    schedule = CronSchedule(expression, zone, gap, fold)
    expected = clock.fires(expression, gap, fold)
    what = f"{expression} in {zone}, gap={gap}, fold={fold}"
    assert fires(schedule, clock.low, clock.high) == expected, what
    assert schedule.count(clock.low * MINUTE_MS, clock.high * MINUTE_MS - 1) == len(expected), what
    upto = clock.high * MINUTE_MS - 1
    for at in reversed(expected):
        assert schedule.last(upto) == at * MINUTE_MS, what
        upto = at * MINUTE_MS - 1


# Each with a reason to be here.
NOTABLE = [
    ("Europe/Berlin", (2026, 3, 29, 1, 0)),
    ("Europe/Berlin", (2026, 10, 25, 1, 0)),
    ("America/New_York", (2026, 3, 8, 7, 0)),
    ("America/New_York", (2026, 11, 1, 6, 0)),
    ("Australia/Lord_Howe", (2026, 10, 3, 15, 30)),  # half an hour
    ("Australia/Lord_Howe", (2026, 4, 4, 15, 0)),
    ("Pacific/Apia", (2011, 12, 30, 10, 0)),  # a day that never was
    ("Pacific/Kwajalein", (1993, 8, 21, 12, 0)),  # another one
    ("Africa/Casablanca", (2026, 2, 15, 2, 0)),  # Ramadan: the clock goes back, then forward within weeks
    ("Africa/Casablanca", (2026, 3, 22, 2, 0)),
    ("America/Sao_Paulo", (2018, 11, 4, 3, 0)),  # midnight does not exist
    ("America/Sao_Paulo", (2018, 2, 18, 2, 0)),  # midnight comes twice, on two dates
    ("Asia/Gaza", (2026, 3, 28, 0, 0)),
    ("Europe/Dublin", (2026, 3, 29, 1, 0)),  # negative DST
    ("Europe/Dublin", (2026, 10, 25, 1, 0)),
    ("Asia/Kathmandu", (1985, 12, 31, 18, 30)),  # a quarter of an hour, over new year
    ("Antarctica/Troll", (2026, 3, 29, 1, 0)),  # two hours
    ("Pacific/Chatham", (2026, 9, 26, 14, 0)),  # 12:45 and 13:45
    ("America/Caracas", (2016, 5, 1, 7, 0)),
    ("Asia/Pyongyang", (2018, 5, 4, 15, 0)),
    ("America/Scoresbysund", (2024, 3, 31, 1, 0)),  # a new zone and DST at once: no change, then one
    ("Africa/Juba", (2021, 1, 31, 21, 0)),
    ("Antarctica/Palmer", (1965, 1, 1, 0, 0)),  # three hours twice, on both sides of new year in UTC
    ("Asia/Kolkata", (2026, 3, 29, 1, 0)),  # no transition at all
]
FIXED = [
    "30 2 * * *",
    "0 0 * * *",
    "0,30 2 * * *",
    "15 1-3 * * *",
    "0 2 * * 0",
    "59 23 * * *",
    "0-59 0 * * *",
    "0 2 29 3 *",
]
WILDCARD = ["33 * * * *", "*/15 * * * *", "*/20 2 * * *", "0 */4 * * *", "* 0-3 * * *"]


@pytest.mark.parametrize(("zone", "at"), NOTABLE, ids=[f"{zone}-{at[0]}-{at[1]:02}" for zone, at in NOTABLE])
def test_notable_transitions_follow_the_rule_in_every_setting(zone, at):
    clock = clock_around(zone, minute_of(*at))
    for expression in FIXED:
        for gap in ("shift", "skip"):
            for fold in ("first", "last", "both"):
                agree(zone, clock, expression, gap, fold)
    for expression in WILDCARD:
        agree(zone, clock, expression)


def test_every_zone_follows_the_rule_at_each_transition_of_three_years():
    checked = 0
    seen = set()
    for zone in sorted(zoneinfo.available_timezones()):
        offset_at = zone_offset(zone)
        for at in transitions(zone, 2025, 2027):
            # Zones that are links of one another, or neighbours with equal clocks, need one table.
            key = (at, offset_at(at - 1), offset_at(at))
            clock = _shared_clock(zone, at, key)
            agree(zone, clock, "30 2,3 * * *")
            if key not in seen:
                agree(zone, clock, "0 0 * * *")
            seen.add(key)
            agree(zone, clock, "*/30 * * * *")
            checked += 1
    assert checked > 900, "the zones' transitions were not found"


_clocks: dict = {}


def _shared_clock(zone, at, key):
    if key not in _clocks:
        _clocks[key] = Clock(zone_offset(zone), at - DAY // 2, at + DAY)
    return _clocks[key]


def _field(low, high):
    value = st.integers(low, high)
    single = st.lists(value, min_size=1, max_size=3).map(lambda them: ",".join(map(str, sorted(set(them)))))
    span = st.tuples(value, value).map(sorted).filter(lambda pair: pair[0] < pair[1]).map(lambda p: f"{p[0]}-{p[1]}")
    return st.one_of(single, span, st.integers(2, min(20, high - low + 1)).map(lambda n: f"*/{n}"), st.just("*"))


expressions = st.tuples(
    _field(0, 59),
    _field(0, 23),
    st.one_of(st.just("*"), _field(1, 31)),
    st.just("*"),
    st.one_of(st.just("*"), _field(0, 6)),
).map(" ".join)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(("Europe/Berlin", (2026, 3, 29, 1, 0)), "* * */2 * 0-6", "shift", "first")  # both days must match
@given(
    st.sampled_from([(zone, at) for zone, at in NOTABLE]),
    expressions,
    st.sampled_from(["shift", "skip"]),
    st.sampled_from(["first", "last", "both"]),
)
def test_any_expression_follows_the_rule_around_a_transition(where, expression, gap, fold):
    zone, at = where
    agree(zone, clock_around(zone, minute_of(*at)), expression, gap, fold)


@settings(max_examples=200, deadline=None)
@example([(4, 8), (2, -8), (2, 8), (9, 1)], {2, 6}, "shift", "first")  # two holes over the same local times
@example([(4, -8), (2, 8), (2, -8), (9, 1)], {-6, -5, -4}, "shift", "last")  # local times that come three times
@given(
    st.lists(st.tuples(st.integers(2, 100), st.integers(-8, 8)), min_size=1, max_size=5),
    st.sets(st.integers(-300, 400), min_size=1, max_size=20),
    st.sampled_from(["shift", "skip"]),
    st.sampled_from(["first", "last", "both"]),
)
def test_transitions_close_together_follow_the_rule_too(changes, quarters, gap, fold):
    """Zones that nobody has: offsets that change within hours, forward over a fold and back over a gap."""
    parts, start, offset = [], -30_000, 0
    end = 0
    for length, change in [*changes, (0, 0)]:
        parts.append(Stretch(start * 60, (end if change or length else 30_000) * 60, offset * 15 * 60))
        start, offset = end, offset + change
        end += length * 15
    parts[-1] = parts[-1]._replace(end_s=30_000 * 60)

    def offset_at(minute):
        return next(part.offset_s // 60 for part in parts if part.start_s <= minute * 60 < part.end_s)

    wanted = {quarter * 15 for quarter in quarters}
    clock = Clock(offset_at, -6000, 9000)
    expected = _literal(clock, wanted, gap, fold)
    found = set()
    for piece in cut_into_pieces(parts, gap, fold):
        inside = [local for local in wanted if piece.lo_s <= local * 60 < piece.hi_s]
        found |= {piece.at_s // 60} if piece.is_gap and inside else set()
        found |= set() if piece.is_gap else {local - piece.offset_s // 60 for local in inside}
    assert found == expected


def _literal(clock, wanted, gap, fold):
    found = set()
    for local in wanted:
        if instants := clock.shown.get(local):
            found |= {"first": {instants[0]}, "last": {instants[-1]}, "both": set(instants)}[fold]
        elif gap == "shift":
            found.add(next(at for at, before, after in clock.jumps if before < local < after))
    return found


def at(zone, *moment, fold=0):
    return instant_ms(datetime(*moment, fold=fold), zone)


def test_a_fixed_time_that_does_not_exist_runs_once_at_the_first_instant_after_the_gap():
    schedule = CronSchedule("10,20,30 2 * * *", "Europe/Berlin")
    assert schedule.next(at("Europe/Berlin", 2026, 3, 29)) == at("Europe/Berlin", 2026, 3, 29, 3, 0)
    assert schedule.next(at("Europe/Berlin", 2026, 3, 29, 3, 0)) == at("Europe/Berlin", 2026, 3, 30, 2, 10)


def test_a_run_shifted_onto_a_regular_one_is_one_fire():
    schedule = CronSchedule("0 2,3 * * *", "Europe/Berlin")
    day = at("Europe/Berlin", 2026, 3, 29), at("Europe/Berlin", 2026, 3, 29, 23, 59)
    assert schedule.next(day[0]) == at("Europe/Berlin", 2026, 3, 29, 3, 0)
    assert schedule.next(schedule.next(day[0])) == at("Europe/Berlin", 2026, 3, 30, 2, 0)
    assert schedule.count(*day) == 1


def test_midnight_after_the_gap_is_not_lost():
    """APScheduler 3.11 loses it: 0 0 * * *, Europe/Berlin, 2026-03-30."""
    schedule = CronSchedule("0 0 * * *", "Europe/Berlin")
    assert schedule.next(at("Europe/Berlin", 2026, 3, 29)) == at("Europe/Berlin", 2026, 3, 30)


def test_a_wildcard_minute_in_a_half_hour_fold_comes_as_often_as_the_clock_shows_it():
    """cronsim misses 2026-10-03T15:33Z."""
    zone = "Australia/Lord_Howe"
    schedule = CronSchedule("33 * * * *", zone)
    assert (
        schedule.next(at(zone, 2026, 10, 4, 1, 33))
        == at(zone, 2026, 10, 4, 2, 33)
        == minute_of(2026, 10, 3, 15, 33) * 60_000
    )
    first, second = at(zone, 2026, 4, 5, 1, 33), at(zone, 2026, 4, 5, 1, 33, fold=1)
    assert first < second == schedule.next(first)


def test_a_wildcard_job_ignores_the_dst_settings():
    plain = CronSchedule("30 */1 * * *", "Europe/Berlin")
    other = CronSchedule("30 */1 * * *", "Europe/Berlin", dst_gap="skip", dst_fold="last")
    low, high = minute_of(2026, 1, 1), minute_of(2026, 12, 31)
    assert fires(plain, low, high) == fires(other, low, high)


def test_a_seconds_field_does_not_make_a_job_a_wildcard_one():
    schedule = CronSchedule("30 2 * * * */20", "Europe/Berlin")
    day = at("Europe/Berlin", 2026, 10, 25), at("Europe/Berlin", 2026, 10, 26)
    assert schedule.count(*day) == 3
    assert schedule.next(at("Europe/Berlin", 2026, 3, 29)) == at("Europe/Berlin", 2026, 3, 29, 3, 0)
    assert schedule.count(at("Europe/Berlin", 2026, 3, 29), at("Europe/Berlin", 2026, 3, 30)) == 1


def test_a_day_that_a_zone_left_out_runs_at_the_first_instant_of_the_next():
    schedule = CronSchedule("0 8 30 12 *", "Pacific/Apia")
    assert schedule.next(at("Pacific/Apia", 2011, 12, 29)) == at("Pacific/Apia", 2011, 12, 31)
    weekly = CronSchedule("0 8 * * *", "Pacific/Apia", dst_gap="skip")
    assert weekly.next(at("Pacific/Apia", 2011, 12, 29, 9)) == at("Pacific/Apia", 2011, 12, 31, 8)


def test_offsets_with_seconds_are_mapped_to_the_second():
    """Liberia was 44 min 30 s behind until 1972."""
    schedule = CronSchedule("0 12 * * *", "Africa/Monrovia")
    found = schedule.next(at("Africa/Monrovia", 1971, 6, 1))
    assert local_datetime(found, "Africa/Monrovia").isoformat() == "1971-06-01T12:00:00-00:44:30"
    assert schedule.last(found) == found


def test_the_oracle_matches_plain_expressions():
    """A test of the test: local minute 0 is Thursday, 1 January 1970."""
    assert matcher("0 0 1 1 *")(0) and matcher("0 0 * * 4")(0) and matcher("0 0 5 * 4")(0)
    assert not matcher("0 0 * * 5")(0) and not matcher("1-59 * * * *")(0)
    assert matcher("*/20 5/6 * * *")(17 * 60 + 40)
