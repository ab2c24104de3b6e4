"""Nothing wrong is stored: every wrong argument is refused before Redis is asked, by an error that names it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redsched import (
    BackgroundTaskScheduler,
    CronSchedule,
    EncodingError,
    IntervalSchedule,
    InvalidInputError,
    InvalidScheduleError,
    JobSpec,
    PayloadTooLargeError,
    RetryPolicy,
    schedule_task,
)
from redsched.testing import Kit, fresh_prefix, kit


async def task(*args: Any, **kwargs: Any) -> None: ...


class Thing:
    def __repr__(self) -> str:
        return "Thing()"  # it is in tests' names, which must be the same in each process


LOOP: list[Any] = []
LOOP.append(LOOP)

Call = Callable[[BackgroundTaskScheduler, dict[str, Any]], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "immediate": lambda s, o: s.schedule_immediate_task(**{"name": "n", "task": task, **o}),
    "delayed": lambda s, o: s.schedule_delayed_task(**{"name": "n", "task": task, "delay_seconds": 5, **o}),
    "at": lambda s, o: s.schedule_at(**{"name": "n", "task": task, "scheduled_time": "2031-01-01T00:00:00", **o}),
    "cron": lambda s, o: s.schedule_cron(**{"name": "n", "task": task, "cron": "0 8 * * *", **o}),
    "interval": lambda s, o: s.schedule_interval(**{"name": "n", "task": task, "seconds": 60, **o}),
    "schedule": lambda s, o: s.schedule(**{"name": "n", "task": task, "schedule": CronSchedule("0 8 * * *"), **o}),
    "many": lambda s, o: s.schedule_many([JobSpec("ok", task), JobSpec(**{"name": "n", "task": task, **o})]),
}

WRONG_OPTIONS: list[tuple[str, Any]] = [
    ("name", None), ("name", ""), ("name", 5), ("name", "x" * 513), ("name", "a\nb"), ("name", "\ud800"),
    ("task", None), ("task", "print"), ("task", 5), ("task", [task]),
    ("args", None), ("args", 5), ("args", "text"), ("args", b"bytes"), ("args", {"a": 1}), ("args", {1, 2}),
    ("args", [Thing()]), ("args", [{"a": [1, Thing()]}]), ("args", [2**64]), ("args", [LOOP]), ("args", ["\ud800"]),
    ("args", [{1, 2}]), ("args", ["x" * 300_000]),
    ("kwargs", None), ("kwargs", []), ("kwargs", "text"), ("kwargs", {1: 2}), ("kwargs", {"a": Thing()}),
    ("kwargs", {"\ud800": 1}),
    ("tags", None), ("tags", "text"), ("tags", [5]), ("tags", [""]), ("tags", ["x" * 513]), ("tags", 5),
    ("tags", [f"t{n}" for n in range(65)]), ("tags", [["a"]]),
    ("job_id", ""), ("job_id", 5), ("job_id", "x" * 513), ("job_id", "a@5"), ("job_id", "a\0b"), ("job_id", b"id"),
    ("queue", ""), ("queue", None), ("queue", 5), ("queue", "a b"), ("queue", "local:x"), ("queue", "x" * 513),
    ("coalesce", None), ("coalesce", 1), ("coalesce", "yes"),
    ("max_instances", 0), ("max_instances", -1), ("max_instances", 1.0), ("max_instances", True),
    ("max_instances", None), ("max_instances", "2"),
    ("misfire_grace_time", 0), ("misfire_grace_time", -1), ("misfire_grace_time", math.nan),
    ("misfire_grace_time", math.inf), ("misfire_grace_time", "1"), ("misfire_grace_time", True),
    ("misfire_grace_time", timedelta(days=-1)), ("misfire_grace_time", 10**400), ("misfire_grace_time", 1e12),
    ("replace_existing", True), ("replace_existing", "yes"), ("replace_existing", 1), ("replace_existing", None),
    ("timeout", 0), ("timeout", -5), ("timeout", math.nan), ("timeout", "5"), ("timeout", 10**400),
    ("timeout", 0.0001),
    ("max_attempts", 0), ("max_attempts", -1), ("max_attempts", None), ("max_attempts", 2.5), ("max_attempts", True),
    ("max_attempts", 2**64), ("max_instances", 2**64), ("max_recoveries", 2**63), ("max_runs", 2**31),
    ("circuit_breaker", "payments"), ("circuit_breaker", 5),
    ("retry", 3), ("retry", "always"), ("retry", {"max_attempts": 3}),
    ("delivery", "exactly_once"), ("delivery", None), ("delivery", 1), ("delivery", []),
    ("timezone", "Europe/Berlni"), ("timezone", 5), ("timezone", ""), ("timezone", "../etc/passwd"),
    ("timezone", timezone(timedelta(microseconds=7))), ("timezone", "\0"),
    ("executor", "gpu"), ("executor", None), ("executor", []), ("executor", 5),
    ("result_ttl", -1), ("result_ttl", None), ("result_ttl", "5"), ("result_ttl", math.inf),
    ("max_recoveries", -1), ("max_recoveries", None), ("max_recoveries", 1.5), ("max_recoveries", False),
    ("max_runs", 0), ("max_runs", -1), ("max_runs", 1.5), ("max_runs", "3"), ("max_runs", True),
    ("next_run_time", "soon"), ("next_run_time", 5), ("next_run_time", date(2031, 1, 1)),
    ("next_run_time", datetime(1, 1, 1, tzinfo=UTC)), ("next_run_time", datetime(9999, 12, 31, tzinfo=UTC)),
    ("next_run_time", "2031-02-30T00:00:00"), ("next_run_time", True),
    ("colour", "red"), ("arg", [1]), ("misfire_grace_ms", 5), ("schedule_at", 5),
]  # fmt: skip

WRONG_TIMES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "delayed": [
        ("delay_seconds", {"delay_seconds": -1}), ("delay_seconds", {"delay_seconds": "5"}),
        ("delay_seconds", {"delay_seconds": math.nan}), ("delay_seconds", {"delay_seconds": True}),
        ("delay_seconds", {"delay_seconds": 10**400}), ("delay", {"delay_seconds": None}),
        ("delay", {"delay_minutes": 5}), ("delay_minutes", {"delay_seconds": None, "delay_minutes": -1}),
        ("delay_minutes", {"delay_seconds": None, "delay_minutes": "5"}),
        ("delay_minutes", {"delay_seconds": None, "delay_minutes": 10**400}),
        ("delay_minutes", {"delay_seconds": None, "delay_minutes": math.inf}),
        ("delay", {"delay_seconds": None, "delay": timedelta(seconds=-1)}),
        ("delay", {"delay_seconds": None, "delay": "5"}), ("delay", {"delay_seconds": None, "delay": timedelta.max}),
        ("delay", {"cron": "0 8 * * *"}),
    ],
    "at": [
        ("scheduled_time", {"scheduled_time": None}), ("run_at", {"scheduled_time": "soon"}),
        ("run_at", {"scheduled_time": 5}), ("run_at", {"scheduled_time": date(2031, 1, 1)}),
        ("run_at", {"scheduled_time": datetime.min}), ("run_at", {"scheduled_time": datetime.max}),
        ("run_at", {"scheduled_time": timedelta(1)}), ("run_at", {"scheduled_time": "2031-02-29"}),
        ("run_at", {"scheduled_time": True}), ("interval", {"interval": 5}), ("start", {"start": "2031-01-01"}),
    ],
    "cron": [
        ("cron", {"cron": None}), ("cron", {"cron": ""}), ("cron", {"cron": 5}), ("cron", {"cron": "* * *"}),
        ("cron", {"cron": "60 * * * *"}), ("cron", {"cron": "* * * * nevday"}), ("cron", {"cron": "x" * 100_000}),
        ("cron", {"cron": "*/0 * * * *"}), ("cron", {"cron": ["0 8 * * *"]}),
        ("start", {"start": "soon"}), ("start", {"start": 5}), ("end", {"end": "later"}),
        ("end", {"start": "2032-01-01", "end": "2031-01-01"}), ("jitter", {"jitter": -1}),
        ("jitter", {"jitter": "5"}), ("jitter", {"jitter": math.nan}), ("dst_gap", {"dst_gap": "jump"}),
        ("dst_fold", {"dst_fold": None}), ("dst_gap", {"dst_gap": []}), ("interval", {"interval": 5}),
    ],
    "interval": [
        ("interval", {"seconds": 0}), ("interval", {"seconds": -5}), ("interval", {"seconds": "5"}),
        ("interval", {"seconds": math.nan}), ("interval", {"seconds": math.inf}), ("interval", {"seconds": 10**400}),
        ("interval", {"interval": 5}), ("interval", {"seconds": 0, "interval": 0}),
        ("interval", {"seconds": 0, "interval": "5"}), ("interval", {"seconds": 0, "interval": True}),
        ("interval", {"seconds": 0, "interval": timedelta(0)}), ("interval", {"seconds": 0, "interval": 0.0001}),
        ("interval", {"seconds": 0, "interval": 10**400}), ("start", {"start": "soon"}), ("end", {"end": []}),
        ("end", {"start": "2032-01-01", "end": "2031-01-01"}), ("jitter", {"jitter": -1}),
        ("jitter", {"jitter": 10**400}),
    ],
    "schedule": [
        ("schedule", {"schedule": None}), ("schedule", {"schedule": "0 8 * * *"}), ("schedule", {"schedule": []}),
        ("schedule", {"schedule": [5]}), ("schedule", {"schedule": 5}), ("jitter", {"jitter": "x"}),
        ("start", {"start": "2031-01-01"}), ("interval", {"interval": 5}),
    ],
}  # fmt: skip


@pytest.fixture
async def fresh(redsched_url: str) -> AsyncIterator[Kit]:
    """As `redsched_kit`; hypothesis may use it for many examples."""
    async with kit(BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)) as made:
        yield made


async def keys(scheduler: BackgroundTaskScheduler) -> set[str]:
    store = await scheduler.store()
    return {key.decode() for key in await store.link.command("KEYS", "*") if store.prefix in key.decode()}


async def refused(scheduler: BackgroundTaskScheduler, call: Call, field: str, options: dict[str, Any]) -> None:
    label = f"{field} in {str(options)[:200]}"
    try:
        await call(scheduler, options)
    except InvalidInputError as error:
        assert error.field == field or field in str(error), f"{label}: {error.field}: {error}"
        assert len(str(error)) < 10_000, label
    except Exception as error:
        pytest.fail(f"{label}: {type(error).__qualname__}: {error}")
    else:
        pytest.fail(f"{label}: was accepted")


@pytest.mark.parametrize("name", CALLS)
async def test_a_wrong_option_is_refused_by_every_call_and_nothing_is_stored(fresh: Kit, name: str) -> None:
    for field, value in WRONG_OPTIONS:
        await refused(fresh.scheduler, CALLS[name], field, {field: value})
    assert await keys(fresh.scheduler) == set()


@pytest.mark.parametrize("name", WRONG_TIMES)
async def test_a_wrong_time_is_refused_and_nothing_is_stored(fresh: Kit, name: str) -> None:
    for field, options in WRONG_TIMES[name]:
        await refused(fresh.scheduler, CALLS[name], field, options)
    assert await keys(fresh.scheduler) == set()


async def test_the_kind_of_error_tells_what_is_wrong(fresh: Kit) -> None:
    scheduler = fresh.scheduler
    for kind, name, options in (
        (EncodingError, "immediate", {"args": [{"a": [Thing()]}]}),
        (PayloadTooLargeError, "immediate", {"args": ["x" * 300_000]}),
        (InvalidScheduleError, "cron", {"cron": "* * *"}),
        (InvalidScheduleError, "immediate", {"timezone": "Europe/Berlni"}),
    ):
        with pytest.raises(kind) as caught:
            await CALLS[name](scheduler, options)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(EncodingError, match=r"args\[0\]\['a'\]\[0\].*Thing"):
        await CALLS["immediate"](scheduler, {"args": [{"a": [Thing()]}]})
    with pytest.raises(InvalidScheduleError, match="Europe/Berlin"):
        await CALLS["immediate"](scheduler, {"timezone": "Europe/Berlni"})


async def test_one_wrong_job_of_many_stores_none(fresh: Kit) -> None:
    with pytest.raises(InvalidInputError, match="max_instances"):
        await fresh.scheduler.schedule_many([JobSpec("ok", task)] * 1500 + [JobSpec("no", task, max_instances=0)])
    assert await keys(fresh.scheduler) == set()


async def test_an_argument_may_be_as_large_as_the_limit_and_not_larger(redsched_url: str) -> None:
    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), max_payload_bytes=1000, declared_tasks=False)
    async with kit(scheduler):
        with pytest.raises(PayloadTooLargeError, match="1,000"):
            await scheduler.schedule_immediate_task("job", task, args=["x" * 1000])
        handle = await scheduler.schedule_immediate_task("job", task, args=["x" * 990])
        with pytest.raises(PayloadTooLargeError):
            await scheduler.modify_job(handle.id, kwargs={"more": "x" * 10})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0), ("max_attempts", 2.0), ("backoff_factor", 0.5), ("max_delay", -1), ("jitter", math.nan),
        ("initial_delay", math.inf), ("initial_delay", "1"), ("retry_on", ("ValueError",)), ("retry_on", ValueError),
        ("retry_on", (int,)), ("retry_on", 5), ("retry_on", ()), ("retry_on", (KeyError, "x")),
    ],
)  # fmt: skip
def test_a_wrong_retry_policy_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=field) as caught:
        RetryPolicy(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "make",
    [
        lambda: CronSchedule("61 * * * *"),
        lambda: CronSchedule("0 8 * * *", timezone="Nowhere"),
        lambda: CronSchedule("0 8 * * *", jitter_ms=-1),
        lambda: IntervalSchedule(0, 0),
        lambda: IntervalSchedule(1.5, 0),
        lambda: IntervalSchedule(1000, 5000, 4000),
    ],
)
def test_a_wrong_schedule_object_cannot_be_made(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidScheduleError):
        make()


async def test_ids_that_are_no_ids_are_refused_by_what_looks_for_jobs(fresh: Kit) -> None:
    scheduler = fresh.scheduler
    for wrong in (None, 5, "", b"id", ["id"]):
        for call in (
            scheduler.get_job, scheduler.pause_job, scheduler.resume_job, scheduler.remove_job, scheduler.run_now,
        ):  # fmt: skip
            with pytest.raises(InvalidInputError, match="job_id"):
                await call(wrong)
        with pytest.raises(InvalidInputError, match="job_id"):
            await scheduler.modify_job(wrong, args=[])
    for wrong in (5, b"id", ""):
        with pytest.raises(InvalidInputError):
            await scheduler.cancel(wrong)
        with pytest.raises(InvalidInputError):
            await scheduler.requeue(wrong)
    with pytest.raises(InvalidInputError, match="ids"):
        await scheduler.cancel_jobs(ids="job-1")


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4),
    st.timedeltas(), st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none()),
)  # fmt: skip
OPTIONS = sorted({field for field, _ in WRONG_OPTIONS} - {"task", "colour", "arg", "misfire_grace_ms", "schedule_at"})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=st.dictionaries(st.sampled_from(OPTIONS), plain, max_size=3), name=st.sampled_from(sorted(CALLS)))
async def test_whatever_is_given_is_either_stored_and_readable_or_refused_by_name(
    fresh: Kit, options: dict[str, Any], name: str
) -> None:
    scheduler = fresh.scheduler
    await scheduler.clear_all_jobs()
    try:
        await CALLS[name](scheduler, options)
    except InvalidInputError as error:
        assert error.field in {*options, "job_id"}, (error.field, str(error))
        assert await scheduler.get_jobs() == []
    else:
        views = await scheduler.get_jobs()
        assert len(views) == (2 if name == "many" else 1)
        view = next(view for view in views if view.name == options.get("name", "n"))
        assert view.state in ("scheduled", "paused")
        for field in ("queue", "coalesce", "max_instances", "executor", "name"):
            if field in options:
                assert getattr(view, field) == options[field]


# -- a name with a slip in it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"crom": "0 2 * * *"}, "cron"),
        ({"cron": "0 2 * * *", "max_atempts": 3}, "max_attempts"),
        ({"cron": "0 2 * * *", "time_zone": "Europe/Berlin"}, "timezone"),
        ({"cron": "0 2 * * *", "jiter": 5}, "jitter"),
        ({"intervall": 5}, "interval"),
        ({"quue": "a"}, "queue"),
    ],
    ids=str,
)
def test_an_option_that_does_not_exist_is_refused_at_import(options: dict[str, Any], meant: str) -> None:
    """Else the nightly job never exists, and nothing says so."""
    with pytest.raises(InvalidInputError, match=f"did you mean {meant}=") as caught:
        schedule_task(**options)
    assert caught.value.field in options


def known_at_import(name: str, value: Any) -> bool:
    """Not so: what only a scheduler knows, its executors and its largest arguments, and whether a job has an id."""
    of_a_scheduler = name in ("name", "task") or (name, value) == ("executor", "gpu") or value == ["x" * 300_000]
    return not of_a_scheduler and not (name == "replace_existing" and value is True)


@pytest.mark.parametrize("option", [option for option in WRONG_OPTIONS if known_at_import(*option)], ids=str)
def test_a_wrong_value_of_a_tasks_option_is_refused_at_import(option: tuple[str, Any]) -> None:
    name, value = option
    with pytest.raises((InvalidInputError, EncodingError)):
        schedule_task(**{name: value})(task)


@pytest.mark.parametrize("place", [*CALLS, "register", "modify", "reschedule", "with_options", "job_defaults"])
async def test_an_option_that_does_not_exist_is_refused_in_each_place_with_what_was_meant(
    fresh: Kit, place: str
) -> None:
    scheduler = fresh.scheduler
    ways: dict[str, Call] = {
        **CALLS,
        "register": lambda s, o: _later(lambda: s.register(task, **o)),
        "modify": lambda s, o: s.modify_job("a", **o),
        "reschedule": lambda s, o: s.reschedule_job("a", cron="@daily", **o),
        "with_options": lambda s, o: s.submit(JobSpec("a", task).with_options(**o)),
        "job_defaults": lambda s, o: _later(lambda: BackgroundTaskScheduler(job_defaults=o)),
    }
    slip = "jiter" if place == "reschedule" else "max_atempts"
    with pytest.raises((InvalidInputError, TypeError), match="jitter" if place == "reschedule" else "max_attempts"):
        await ways[place](scheduler, {slip: 3})
    assert await scheduler.get_jobs() == []


async def _later(make: Callable[[], Any]) -> Any:
    return make()
