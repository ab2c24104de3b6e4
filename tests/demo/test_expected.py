"""The demo's own list of fires, against cases written by hand: it is the yardstick, so it has to be right by itself."""

from datetime import UTC, date, datetime

import pytest

from redsched.demo.expected import changes_on, day_of, expect, next_change_day, parse, walk


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def fires(expression: str, zone: str, start: str, end: str) -> list[str]:
    found = expect(expression, walk(zone, ms(start), ms(end))).fires
    return [datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%d %H:%M") for at_ms in found]


BERLIN_SPRING = ("Europe/Berlin", "2027-03-27T23:00", "2027-03-28T22:00")
BERLIN_AUTUMN = ("Europe/Berlin", "2027-10-30T22:00", "2027-10-31T23:00")
LORD_HOWE_SPRING = ("Australia/Lord_Howe", "2027-10-02T13:30", "2027-10-03T13:00")
LORD_HOWE_AUTUMN = ("Australia/Lord_Howe", "2027-04-03T13:00", "2027-04-04T13:30")


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        pytest.param("0 8 * * *", ["2027-07-01T08:00"], id="daily"),
        pytest.param("08 4 * * *", ["2027-07-01T04:08"], id="leading zero"),
        pytest.param("5-55/20 3 * * *", ["2027-07-01T03:05", "2027-07-01T03:25", "2027-07-01T03:45"], id="range, step"),
        pytest.param("2,17 3 * * *", ["2027-07-01T03:02", "2027-07-01T03:17"], id="list"),
        pytest.param("0 */12 * * *", ["2027-07-01T00:00", "2027-07-01T12:00"], id="step"),
        pytest.param("0 9 * * thu", ["2027-07-01T09:00"], id="weekday by name, on it"),
        pytest.param("0 9 * * sun", [], id="weekday by name, on another"),
        pytest.param("0 9 * * 7", [], id="Sunday as 7"),
        pytest.param("0 9 1 * sun", ["2027-07-01T09:00"], id="either day is enough"),
        pytest.param("0 9 */2 * sun", [], id="a day field with a star: both are needed"),
        pytest.param("0 9 * jul *", ["2027-07-01T09:00"], id="month by name"),
        pytest.param("@daily", ["2027-07-01T00:00"], id="@daily"),
        pytest.param("@monthly", ["2027-07-01T00:00"], id="@monthly, on the first"),
        pytest.param("@weekly", [], id="@weekly, on a Thursday"),
        pytest.param("@yearly", [], id="@yearly"),
    ],
)
def test_a_plain_day(expression: str, due: list[str]) -> None:
    found = expect(expression, walk("UTC", ms("2027-07-01T00:00"), ms("2027-07-02T00:00")))
    assert list(found.fires) == [ms(text) for text in due]


def test_every_minute_and_every_hour_are_counted_by_the_clock_of_the_world() -> None:
    assert len(fires("* * * * *", *BERLIN_SPRING)) == 23 * 60
    assert len(fires("@hourly", *BERLIN_SPRING)) == 23
    assert len(fires("* * * * *", *BERLIN_AUTUMN)) == 25 * 60
    assert len(fires("0 * * * *", *BERLIN_AUTUMN)) == 25
    assert len(fires("*/30 * * * *", *LORD_HOWE_SPRING)) == 47


@pytest.mark.parametrize("expression", ["61 * * * *", "* 24 * * *", "* * 0 * *", "5-1 * * * *", "* * * *", "x * * * *"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(expression)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        pytest.param("30 2 * * *", ["28 01:00"], id="in the gap: at the first instant after it"),
        pytest.param("0 2 * * sun", ["28 01:00"], id="at the gap's first minute"),
        pytest.param("10,20 2 * * *", ["28 01:00"], id="two times in the gap: once"),
        pytest.param("59 2,3 * * *", ["28 01:00", "28 01:59"], id="in the gap, and after it"),
        pytest.param("0 3 * * *", ["28 01:00"], id="right after it"),
        pytest.param("0 2,3 * * *", ["28 01:00"], id="in the gap and right after it: once"),
        pytest.param("59 1 * * *", ["28 00:59"], id="right before it"),
        pytest.param("*/30 2 * * *", [], id="a star for minutes: the clock does not show it"),
        pytest.param(
            "30 */2 * * *", [f"{d} {h}:30" for d, h in (("27", 23), ("28", "02"), ("28", "04"))], id="star hour"
        ),
    ],
)
def test_a_fixed_time_in_a_gap_runs_once_after_it(expression: str, due: list[str]) -> None:
    assert fires(expression, *BERLIN_SPRING)[: max(1, len(due))] == due


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        pytest.param("30 2 * * *", ["31 00:30"], id="twice on the clock: the first time"),
        pytest.param("0 2 * * *", ["31 00:00"], id="the fold's first minute"),
        pytest.param("0 3 * * *", ["31 02:00"], id="after the fold"),
        pytest.param("30 * * * *", ["30 22:30", "30 23:30", "31 00:30", "31 01:30"], id="a star for hours: both times"),
        pytest.param("*/30 2 * * *", ["31 00:00", "31 00:30", "31 01:00", "31 01:30"], id="a star for minutes: both"),
    ],
)
def test_a_fixed_time_that_comes_twice_runs_the_first_time(expression: str, due: list[str]) -> None:
    assert fires(expression, *BERLIN_AUTUMN)[: len(due)] == due


def test_the_half_hour_of_lord_howe() -> None:
    assert fires("15 2 * * *", *LORD_HOWE_SPRING) == ["02 15:30"]  # 02:15 does not exist: at 02:30
    assert fires("15 2,3 * * *", *LORD_HOWE_SPRING) == ["02 15:30", "02 16:15"]
    assert fires("45 1 * * *", *LORD_HOWE_AUTUMN) == ["03 14:45"]  # comes again at 15:15
    assert fires("45 * * * *", *LORD_HOWE_AUTUMN)[:3] == ["03 13:45", "03 14:45", "03 15:15"]


def test_it_tells_what_was_moved_and_what_was_dropped() -> None:
    gap = expect("30 2 * * *", walk("Europe/Berlin", ms("2027-03-27T23:00"), ms("2027-03-28T22:00")))
    assert gap.moved == (ms("2027-03-28T01:00"),)
    fold = expect("30 2 * * *", walk("Europe/Berlin", ms("2027-10-30T22:00"), ms("2027-10-31T23:00")))
    assert fold.dropped == (ms("2027-10-31T01:30"),)


def test_days() -> None:
    assert changes_on(date(2027, 3, 28), "Europe/Berlin")
    assert not changes_on(date(2027, 3, 28), "America/New_York")
    assert next_change_day("Europe/Berlin", datetime(2026, 11, 24, tzinfo=UTC)) == date(2027, 3, 28)
    assert next_change_day("Europe/Berlin", datetime(2027, 3, 28, 5, tzinfo=UTC)) == date(2027, 10, 31)
    with pytest.raises(ValueError, match="UTC"):
        next_change_day("UTC", datetime(2026, 11, 24, tzinfo=UTC))
    day = day_of(date(2027, 10, 3), ["Europe/Berlin", "Australia/Lord_Howe"])
    assert day.home == "Australia/Lord_Howe"
    assert day.end_ms - day.start_ms == 23.5 * 3_600_000
    [change] = day.changes
    assert (change.at_ms, change.forward) == (ms("2027-10-02T15:30"), True)
    assert day_of(date(2027, 7, 1), ["Europe/Berlin", "UTC"]).changes == []
