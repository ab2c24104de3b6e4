"""The cron dialect, the errors of an expression, and other libraries and Debian's cron as oracles of it."""

import os
import random
import re
import subprocess
import sys
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

import pytest
from croniter import CroniterBadDateError, croniter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from redsched.errors import InvalidScheduleError
from redsched.schedules import CronSchedule, expression, schedule_from_wire
from redsched.schedules.expression import parse_expression

from . import debian


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
        ("* * * * * * 2026", "is a year"),
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
    return st.one_of(
        single, span, st.integers(2, min(20, high - low + 1)).map(lambda n: f"*/{n}"), st.just("*"), st.just("*")
    )


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
    assume(not ("W" in text and text.split()[4] == "*/6"))  # a working day that is Saturday or Sunday never comes
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
    """As they are written, with the rule for the days named; but for a 10W beside a weekday, which it always ANDs."""
    _, _, day, _, weekday, *_ = text.split()
    either = not day.startswith("*") and not weekday.startswith("*")
    theirs = croniter(text, float(at - 1), day_or=either, max_years_between_matches=50)
    try:
        expected = int(theirs.get_next(float))
    except CroniterBadDateError:
        return  # it gives up where both must match and do so rarely
    assert parse_expression(text).next(at) == expected


# --- the days, by Debian's cron ---------------------------------------------------------------------------------------

ITEMS_OF_DAYS = st.one_of(
    st.integers(1, 31).map(str),
    st.tuples(st.integers(1, 31), st.integers(1, 31)).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.just("*"),
    st.integers(1, 31).map(lambda n: f"*/{n}"),
    st.just("1-31"),
)
ITEMS_OF_WEEKDAYS = st.one_of(
    st.integers(0, 7).map(str),
    st.sampled_from(["sun", "Mon", "FRI"]),
    st.tuples(st.integers(0, 7), st.integers(0, 7)).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 3)).map(
        lambda t: f"{min(t[:2])}-{max(t[:2])}/{t[2]}"
    ),
    st.sampled_from(["*", "*/2", "*/3", "*/7", "0-6", "1-7", "0-7", "sun-sat", "mon-fri"]),
)
one_or_two = lambda items: st.lists(items, min_size=1, max_size=2).map(",".join)  # noqa: E731


@settings(max_examples=500, deadline=None)
@example("1-7", "*/7", 2026)  # the first Sunday of each month
@example("*/7", "mon", 2026)
@example("1-7", "*,sun", 2026)  # begins with a star
@example("1-7", "sun,*", 2026)  # does not
@example("1-31", "mon", 2026)  # a range of all days does not count as a star: every day
@example("13", "fri", 2026)
@example("*", "0-7", 2026)
@example("5", "5-7", 2026)
@given(one_or_two(ITEMS_OF_DAYS), one_or_two(ITEMS_OF_WEEKDAYS), st.integers(1970, 2100))
def test_the_day_of_the_month_and_the_weekday_are_combined_as_debians_cron_does(day, weekday, year):
    entry = debian.load_entry(f"0 0 {day} * {weekday}")
    dates = [date(year, 1, 1) + timedelta(days=n) for n in range(366)]
    expected = [each for each in dates if debian.find_jobs(entry, each)]
    low, high = local(year, 1, 1), local(year, 1, 1) + 366 * 86_400
    try:
        parsed = parse_expression(f"0 0 {day} * {weekday}")
    except InvalidScheduleError as error:
        assert "never fires" in str(error) and not expected
        return
    found, at = [], parsed.next(low)
    while at is not None and at < high:
        found.append(datetime.fromtimestamp(at, UTC).date())
        at = parsed.next(at + 1)
    assert found == expected


def test_the_first_sunday_of_the_month_is_written_with_a_star():
    assert days("0 0 1-7 * */7", 3) == ["06-07", "07-05", "08-02"]


# --- L, L-3, LW, 5L ---------------------------------------------------------------------------------------------------


def last_days_by_hand(item, year, month):
    """What an item of the two day fields means, by counting on fingers."""
    every = [date(year, month, 1) + timedelta(days=n) for n in range(monthrange(year, month)[1])]
    weekdays = [day for day in every if day.isoweekday() < 6]
    if match := re.fullmatch(r"L-(\d+)", item):
        return every[-1 - int(match[1]) :][:1] if int(match[1]) < len(every) else []
    if item == "L":
        return every[-1:]
    if item in ("LW", "WL"):
        return weekdays[-1:]
    digits = item.strip("L")
    wanted = int(digits) % 7 if digits.isdigit() else {"sun": 0, "mon": 1, "fri": 5}[digits]
    return [day for day in every if day.isoweekday() % 7 == wanted][-1:]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["L", "LW", "WL", "L-1", "L-3", "L-30", "5L", "L5", "0L", "7L", "friL", "sunL", "monL"]),
    st.integers(1970, 2100),
)
def test_the_last_days_are_those_found_by_counting(item, year):
    of_week = item not in ("L", "LW", "WL") and not item.startswith("L-")
    parsed = parse_expression(f"0 0 * * {item}" if of_week else f"0 0 {item} * *")
    expected = [day for month in range(1, 13) for day in last_days_by_hand(item, year, month)]
    found, at = [], parsed.next(local(year, 1, 1))
    while at < local(year + 1, 1, 1):
        found.append(datetime.fromtimestamp(at, UTC).date())
        at = parsed.next(at + 1)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 L-3 * *", ["06-27", "07-28", "08-28"]),
        ("0 0 LW * *", ["06-30", "07-31", "08-31", "09-30", "10-30"]),
        ("0 0 * * 5L", ["06-26", "07-31"]),
        ("0 0 * * friL,monL", ["06-26", "06-29", "07-27", "07-31"]),
        ("0 0 1,15,L * *", ["06-01", "06-15", "06-30", "07-01"]),
        ("0 0 L-1W * *", ["06-29", "07-30", "08-31"]),
        ("0 0 LW */3 *", ["07-31", "10-30"]),
        ("0 0 L * 1", ["06-01", "06-08"]),  # either is enough: neither begins with a star
        ("0 0 L * */7", ["01-31", "02-28"]),  # both: one of them begins with a star
    ],
)
def test_the_last_days_go_with_lists_steps_and_the_other_field(text, expected):
    assert days(text, len(expected)) == expected


def test_the_last_days_follow_the_clocks():
    """The last Sunday of October is the day of the fold in Berlin, that of March the day of the gap."""
    schedule = CronSchedule("30 2 * 3,10 sunL", "Europe/Berlin")
    march = schedule.next(local(2026, 1, 1) * 1000)
    assert datetime.fromtimestamp(march / 1000, UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    october = schedule.next(march)
    assert datetime.fromtimestamp(october / 1000, UTC) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert datetime.fromtimestamp(schedule.next(october) / 1000, UTC).year == 2027
    assert schedule_from_wire(schedule.to_wire()) == schedule
    assert schedule.describe() == "cron 30 2 * 3,10 sunL (Europe/Berlin)"


# --- six fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "last", "first"),
    [
        ("0 0 8 * * *", "2027-01-08 00:00:00 and 2027-01-08 00:00:01", "2027-01-01 08:00:00 and 2027-01-02 08:00:00"),
        ("*/5 * * * * *", "2027-01-01 00:00:01", "2027-01-01 00:00:05"),
        ("0 * * * * *", "525,600 times, as 2027-01-01 00:00:00 and 2027-01-01 00:00:01", "00:01:00"),
        ("0 */10 * * * *", "second *", "minute */10"),
        ("0 0 12 1 * *", "day of month 12", "hour 12"),
        ("* 8 * * * *", "hour 8", "minute 8"),
        ("0 0 9 * * 1-5", "second 1-5", "day of week 1-5"),
        ("0 20 9 * * 1", "day of month 9", "hour 9"),
        ("0 0 1 * * 0", "day of month 1", "hour 1"),
        ("0 8 * * ? *", "hour 8", "AWS"),
        ("0 0 30 * * *", "day of month 30", "an error"),
        ("30 8 * * * *", "minute 30, hour 8", "minute 8"),
    ],
)
def test_six_fields_in_a_doubtful_order_are_refused_with_both_readings(text, last, first):
    with pytest.raises(InvalidScheduleError, match="two readings") as caught:
        CronSchedule(text)
    readings = str(caught.value).partition("With the second last")[2].split("With the second first")
    assert last in readings[0] and first in readings[1]
    assert 'seconds="first"' in readings[1] and 'seconds="last"' in readings[1]
    assert CronSchedule(text, seconds="last").seconds == "last"


@pytest.mark.parametrize(
    "text", ["0 0 12 * * ?", "0 15 10 ? * MON-FRI", "0 0 9 * * mon", "0 0 18 LW * ?", "0 0 9 ? * 6#3", "0 30 9 * * 1"]
)
def test_six_fields_that_only_quartz_understands_are_refused_with_the_remedy(text):
    with pytest.raises(InvalidScheduleError, match='pass seconds="first"'):
        CronSchedule(text)
    assert CronSchedule(text, seconds="first").next(0)


@pytest.mark.parametrize(
    "text",
    ["30 8 * * * 15", "* * * * * */10", "* * * * * *", "*/5 * * * * 0", "5 1 * * * 10,40", "30 2 * * * */20",
     "0 8 * * * 0", "* 8-18 * * * */15", "0 0 1 1 * 30", "0 0 1 1 1 0"],
)  # fmt: skip
def test_six_fields_without_a_doubt_are_read_with_the_second_last(text):
    assert CronSchedule(text) == CronSchedule(text, seconds="last")


def test_the_second_may_be_the_first_field():
    schedule = CronSchedule("15 30 8 * * mon-fri", "Europe/Berlin", seconds="first")
    assert schedule.next(0) == CronSchedule("30 8 * * mon-fri 15", "Europe/Berlin").next(0)
    assert schedule.describe() == "cron 15 30 8 * * mon-fri (Europe/Berlin, second first)"
    assert schedule_from_wire(schedule.to_wire()) == schedule == schedule.with_seed("a")
    assert schedule != CronSchedule("15 30 8 * * 1", "Europe/Berlin", seconds="first")
    assert CronSchedule("0 8 * * *", seconds="first") == CronSchedule("0 8 * * *"), "five fields have no second"
    with pytest.raises(InvalidScheduleError, match="first, last"):
        CronSchedule("0 8 * * *", seconds="middle")


@pytest.mark.parametrize("text", ["0 0 8 * * *", "*/90 * * * *", "0 0 9 * * 1"])
def test_what_was_stored_before_it_was_refused_goes_on(text):
    wire = ["cron", text, "UTC", "shift", "first", None, None, 5000]
    schedule = schedule_from_wire(wire).with_seed("job-1")
    assert schedule.next(0) is not None and schedule.to_wire() == [*wire, "job-1"]


# --- steps, and text that is not a schedule ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("*/90 * * * *", "minutes=90"),
        ("0 */25 * * *", "hours=25"),
        ("0 0 */40 * *", "days=40"),
        ("0 0 1 */13 *", "name the months"),
        ("0 0 * * */8", "days=8"),
        ("0-10/20 * * * *", "0-10/20 would be 0 alone, as the range has only 11 values"),
        ("5/90 * * * *", "would be 5 alone"),
        ("0 22-2/6 * * *", "only 5 values"),
        ("0 0 * * fri-mon/5", "would be fri alone"),
        ("0 0 1 nov-feb/6 *", "only 4 values"),
        ("0 8 * * * */75", "seconds=75"),
        ("0,*/61 * * * *", "step"),
    ],
)
def test_a_step_beyond_the_range_is_refused_with_the_remedy(text, says):
    with pytest.raises(InvalidScheduleError, match="beyond its range") as caught:
        CronSchedule(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["*/60 * * * *", "0 */24 * * *", "0 0 1-7 * */7", "0 0 */31 * *", "0-10/11 * * * *"])
def test_a_step_as_long_as_the_range_is_one_value(text):
    assert CronSchedule(text).next(0) is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("CRON_TZ=Europe/Berlin 0 8 * * *", "timezone='Europe/Berlin', and the expression '0 8 * * *'"),
        ("TZ=Asia/Tokyo @daily", "timezone='Asia/Tokyo', and the expression '@daily'"),
        ("MAILTO=root", "a variable of a crontab"),
        ("PATH=/bin 0 8 * * *", "a variable of a crontab"),
        ("0 8 * * * # every morning", "'# every morning' is a comment; leave it out: '0 8 * * *'"),
        ("# 0 8 * * *", "is a comment"),
        ("0 8 * * * /usr/bin/backup --all", "the command"),
        ("0 8 * * * root test -x /bin/x", "the user"),
        ("0 8 * * * backup", "the command"),
        ("@daily /usr/bin/backup", "the command"),
        ("@every 5m", "interval="),
        ("0 8 * * * 2030", "is a year"),
        ("0 0 8 * * ? 2030-2035", "is a year"),
        ("0 0 8 * * ? *", "is a year"),
        ("rate(5 minutes)", "AWS"),
        ("cron(0 8 * * ? *)", "AWS"),
        ("H 8 * * *", "Jenkins"),
        ("0~59 8 * * *", "jitter="),
        ("0 8 * * L", "5L is the last Friday"),
        ("0 8 L-31 * *", "out of range"),
        ("0 8 L-x * *", "neither a number nor a name"),
        ("0 0 31 2 */2", "never fires"),
        ("0 0 L-30 2 *", "never fires"),
    ],
)
def test_what_is_no_schedule_is_named(text, says):
    for seconds_order in (None, "first", "last"):
        with pytest.raises(InvalidScheduleError) as caught:
            CronSchedule(text, seconds=seconds_order)
        assert says in str(caught.value)


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """What croniter is asked from now on, with nothing remembered."""
    calls = []
    original = expression._ask_croniter
    monkeypatch.setattr(expression, "_ask_croniter", lambda *args: calls.append(args) or original(*args))
    expression._next_match.cache_clear()
    expression.days_of_year.cache_clear()
    yield calls
    expression._next_match.cache_clear()


@pytest.mark.parametrize("text", ["* * * * *", "* * * * 1-5", "* 0-23 1-30 * 1-5", "* * L-30,1-31 * */1"])
def test_ten_thousand_jobs_ask_croniter_once_for_each_fire(asked, text):
    choose = random.Random(1)
    start = local(2026, 6, 1) * 1000
    for number in range(10_000):
        schedule = CronSchedule(text, choose.choice(["UTC", "Asia/Tokyo"]), jitter_ms=number % 2, seed=str(number))
        following = schedule.next(start + choose.randrange(100, 59_000))
        assert 60_000 <= following - start <= 60_001
    # UTC and Tokyo show different local times: one match each, and the one after it for the bound of the jitter.
    assert 1 <= len(asked) <= 6
    assert expression.days_of_year.cache_info().misses <= 3


@pytest.mark.parametrize(
    ("text", "most"),
    [("0 8 * * mon-fri", 1), ("0 8 1,15,L * *", 1), ("0 0 29 2 *", 1), ("0 8 ? */2 */2", 1), ("*/5 9-17 1-31 * fri", 1),
     ("0 0 1-7 * */7", 2), ("0 0 13 * fri", 2), ("0 0 L-3,LW * *", 2), ("0 0 * * 5L,mon#1", 2),
     ("0 0 29 2 */7", 2), ("0 0 * 2 mon#5", 2), ("0 0 L-28 2 *", 2)],
)  # fmt: skip
def test_a_match_asks_croniter_once_or_twice_where_it_does_not_know_the_days(asked, text, most):
    """However rare the day is: a 29 February that is a Sunday, a fifth Monday in February."""
    parsed, at = parse_expression(text), local(2026, 6, 1)
    for _ in range(50):
        asked.clear()
        match = parsed.next(at)
        assert 1 <= len(asked) <= most
        assert match == expression._ask_croniter(*asked[-1]), "the match is croniter's answer"
        at = match + 1
        if at > local(2500, 1, 1):
            break


def test_a_cron_schedule_starts_no_process(tmp_path):
    """Not even `file`, by which `platform.architecture` finds out how many bits this Python has."""
    trap = tmp_path / "file"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
    trap.chmod(0o755)
    program = """
import platform, sys, threading
before, started = platform.architecture, []
kinds = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec"}
sys.addaudithook(lambda event, args: started.append((event, args[:2])) if event in kinds else None)
from redsched import CronSchedule
schedules = [CronSchedule(text, timezone="Europe/Berlin") for text in ("0 8 * * *", "*/5 * * * mon#2", "0 0 l * *")]
threads = [threading.Thread(target=each.next, args=(0,)) for each in schedules]
[each.start() for each in threads], [each.join() for each in threads]
assert all(each.next(0) for each in schedules)
assert "croniter" in sys.modules and platform.architecture is before and started == [], started
"""
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
    assert not (tmp_path / "was_run").exists()
