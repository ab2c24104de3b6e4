"""The cron dialect, the errors of an expression, and how often croniter is asked."""

import random
from datetime import UTC, datetime

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from redsched.errors import InvalidScheduleError
from redsched.schedules import CronSchedule, expression
from redsched.schedules.expression import parse_expression


def local(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp())


def some(text, *start, number=4):
    found, at = [], local(*start)
    for _ in range(number):
        at = parse_expression(text).next(at)
        found.append(datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        at += 1
    return found


def days(text, number=4):
    """The first days from Monday, 1 June 2026."""
    return [each[5:10] for each in some(text, 2026, 6, 1, number=number)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 * * 0", ["06-07", "06-14"]),
        ("0 0 * * 7", ["06-07", "06-14"]),
        ("0 0 * * sun", ["06-07", "06-14"]),
        ("0 0 * * SAT-MON", ["06-01", "06-06", "06-07", "06-08"]),
        ("0 0 13 * fri", ["06-05", "06-12", "06-13", "06-19"]),
        ("0 0 */10 * *", ["06-01", "06-11", "06-21", "07-01"]),
        ("0 0 * nov-jan/2 *", ["11-01", "11-02"]),
        ("0 0 L * *", ["06-30", "07-31", "08-31"]),
        ("0 0 L 2 *", ["02-28"]),
        ("0 0 15W * *", ["06-15", "07-15", "08-14", "09-15"]),
        ("0 0 1W * *", ["06-01", "07-01", "08-03"]),
        ("0 0 * * fri#2", ["06-12", "07-10"]),
        ("0 0 * * mon#5", ["06-29", "08-31"]),
        ("0 0 * * L5", ["06-26", "07-31"]),
        ("0 0 20 * 1#1", ["06-01", "06-20", "07-06", "07-20"]),
        ("0 0 ? * 1", ["06-01", "06-08"]),
        ("0 0 31 * *", ["07-31", "08-31", "10-31"]),
        ("@weekly", ["06-07", "06-14"]),
        ("@MONTHLY", ["06-01", "07-01"]),
        ("@yearly", ["01-01"]),
    ],
)
def test_days_are_those_of_the_standard_dialect(text, expected):
    assert days(text, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("0 22-2 * * *", [0, 1, 2, 22, 23]),
        ("0 8-8 * * *", [8]),
        ("0 23-5/2 * * *", [1, 3, 5, 23]),
        ("0 20/2 * * *", [20, 22]),
        ("0 */7 * * *", [0, 7, 14, 21]),
        ("0 1-9/4,12 * * *", [1, 5, 9, 12]),
        ("@midnight", [0]),
    ],
)
def test_hours_are_those_of_the_standard_dialect(text, hours):
    found = some(text, 2026, 6, 1, number=len(hours) + 1)
    assert [int(each[11:13]) for each in found[:-1]] == hours and found[-1][:10] == "2026-06-02"


def test_the_sixth_field_is_the_second():
    assert [each[11:] for each in some("5 1 * * * 10,40", 2026, 6, 1, number=2)] == ["01:05:10", "01:05:40"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("60 * * * *", "the minute field ('60') is wrong: 60 is out of range; allowed: 0-59"),
        ("* 24 * * *", "the hour field ('24')"),
        ("* * 0 * *", "the day of month field ('0')"),
        ("* * 32W * *", "the day of month field ('32w')"),
        ("* * * 13 *", "the month field ('13')"),
        ("* * * jann *", "'jann' is neither a number nor a name"),
        ("* * * * 8", "the day of week field ('8')"),
        ("* * * * fri#6", "#6 is out of range"),
        ("* * * * * 60", "the second field ('60')"),
        ("*/0 * * * *", "a step of 0"),
        ("*/x * * * *", "the step 'x' is not a number"),
        ("1,,2 * * * *", "a value is missing"),
        ("-5 * * * *", "negative"),
        ("*-5 * * * *", "a range starts with a value"),
        ("5-* * * * *", "not understood"),
        ("H * * * *", "neither a number nor a name"),
        ("R/5 * * * *", "neither a number nor a name"),
        ("? * * * *", "not understood"),
        (f"{'9' * 5000} * * * *", "out of range"),
        ("* * * *", "4 fields"),
        ("* * * * * * 2026", "7 fields"),
        ("", "0 fields"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6 *", "never fires"),
        ("@reboot", "reboot"),
        ("@fortnightly", "@daily"),
    ],
)
def test_a_broken_expression_is_refused_with_its_field_and_the_reason(text, says):
    with pytest.raises(InvalidScheduleError) as caught:
        CronSchedule(text)
    assert says in str(caught.value)
    assert caught.value.field == "expression"


def _field(low, high):
    value = st.integers(low, high)
    single = st.lists(value, min_size=1, max_size=4).map(lambda them: ",".join(map(str, them)))
    span = st.tuples(value, value).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    return st.one_of(single, span, st.integers(2, 20).map(lambda n: f"*/{n}"), st.just("*"), st.just("*"))


texts = st.tuples(
    _field(0, 59),
    _field(0, 23),
    st.one_of(_field(1, 28), st.just("L"), st.just("10W")),
    _field(1, 12),
    _field(0, 6),
    st.sampled_from(["", "", "0", "*/25", "7,59"]),
).map(lambda parts: " ".join(parts).strip())
seconds = st.integers(local(1970, 1, 1), local(2090, 1, 1))


@settings(max_examples=400, deadline=None)
@given(texts, seconds)
def test_the_latest_match_and_the_counts_agree_with_croniters_next(text, at):
    """next() comes from croniter, last() and count() from lists of days: two ways that have to meet."""
    parsed = parse_expression(text)
    following = parsed.next(at)
    assert following >= at
    assert parsed.last(following) == following
    assert parsed.count(at, following) == 0
    assert parsed.count(at, following + 1) == 1
    before = parsed.last(at - 1)
    assert parsed.next(before + 1) == following
    second = parsed.next(following + 1)
    assert parsed.last(second - 1) == following
    assert parsed.count(following, second + 1) == 2


@settings(max_examples=300, deadline=None)
@given(texts.filter(lambda text: "W" not in text), seconds)
def test_plain_expressions_mean_what_they_mean_to_croniter(text, at):
    """But for a 10W beside a weekday, which croniter ANDs."""
    assert parse_expression(text).next(at) == int(croniter(text, float(at - 1)).get_next(float))


def test_ten_thousand_jobs_ask_croniter_once_for_each_fire(monkeypatch):
    calls = []
    original = expression._call_croniter
    monkeypatch.setattr(expression, "_call_croniter", lambda *args: calls.append(args) or original(*args))
    expression._next_match.cache_clear()
    choose = random.Random(1)
    start = local(2026, 6, 1) * 1000
    for number in range(10_000):
        schedule = CronSchedule(
            "* * * * *", choose.choice(["UTC", "Asia/Tokyo"]), jitter_ms=number % 2, seed=str(number)
        )
        following = schedule.next(start + choose.randrange(100, 59_000))
        assert 60_000 <= following - start <= 60_001
    # UTC and Tokyo show different local times: one match each, and the one after it for the bound of the jitter.
    assert len(calls) <= 6
