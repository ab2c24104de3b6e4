"""A job whose task cannot be called with its arguments is refused when it is made, with the argument's name."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsched import (
    BackgroundTask,
    CircuitBreakerPolicy,
    CronSchedule,
    InvalidInputError,
    JobSpec,
    RetryPolicy,
    schedule_task,
)
from redsched.tasks.binding import check_call
from redsched.tasks.signatures import signature_of
from redsched.testing import Kit


async def plain(order_id: str, minutes: int = 5) -> None: ...


def only_named(*, order_id: str, minutes: int = 5) -> None: ...


def only_positional(order_id: str, minutes: int = 5, /) -> None: ...


async def anything(*args: Any, **kwargs: Any) -> None: ...


def some(first: int, *rest: int, key: str = "") -> None: ...


@RetryPolicy(max_attempts=2).apply
@CircuitBreakerPolicy().apply
async def wrapped(order_id: str) -> None: ...


def injecting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def with_session(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    return with_session


@injecting
def injected(session: str, order_id: str) -> None: ...


class Oven:
    async def heat(self, degrees: int) -> None: ...

    @schedule_task
    async def cool(self, degrees: int) -> None: ...

    @classmethod
    def clean(cls, how: str) -> None: ...

    @staticmethod
    def count(number: int) -> None: ...

    def __call__(self, degrees: int) -> None: ...


class Notify(BackgroundTask):
    def __init__(self, unit: str = "") -> None:
        self.unit = unit

    async def execute(self, order_id: str) -> None: ...


OVEN = Oven()

REFUSED: list[tuple[Any, list[Any], dict[str, Any], str]] = [
    (plain, [], {}, "'order_id'"),
    (plain, ["a", 5, 6], {}, "too many"),
    (plain, ["a"], {"minuts": 5}, "did you mean minutes"),
    (plain, ["a"], {"order_id": "b"}, "'order_id'"),
    (only_named, ["a"], {}, "positional"),
    (only_named, [], {}, "'order_id'"),
    (only_positional, [], {"order_id": "a"}, "'order_id'"),
    (some, [], {"key": "a"}, "'first'"),
    (wrapped, [], {}, "'order_id'"),
    (OVEN.heat, [], {}, "'degrees'"),
    (OVEN.heat, [1, 2], {}, "too many"),
    (OVEN.cool, [], {}, "'degrees'"),
    (Oven.clean, [], {}, "'how'"),
    (Oven.count, [], {}, "'number'"),
    (Notify, [], {}, "'order_id'"),
    (Notify("kg"), ["a", "b"], {}, "too many"),
    (Notify, [], {"order": "a"}, "'order"),
    (functools.partial(plain, "a"), [1, 2], {}, "too many"),
    (lambda a: None, [], {}, "'a'"),
    (len, [], {}, "'obj'"),
]
ACCEPTED: list[tuple[Any, list[Any], dict[str, Any]]] = [
    (plain, ["a"], {}),
    (plain, ["a", 5], {}),
    (plain, [], {"order_id": "a", "minutes": 5}),
    (only_named, [], {"order_id": "a"}),
    (only_positional, ["a"], {}),
    (anything, [1, 2, 3], {"a": 1}),
    (some, [1, 2, 3], {"key": "a"}),
    (wrapped, ["a"], {}),
    (injected, ["a"], {}),
    (OVEN.heat, [5], {}),
    (OVEN.cool, [], {"degrees": 5}),
    (Oven.clean, ["well"], {}),
    (Oven.count, [5], {}),
    (Notify, ["a"], {}),
    (Notify("kg"), [], {"order_id": "a"}),
    (functools.partial(plain, minutes=3), ["a"], {}),
    (lambda a, b=1: None, [1], {}),
    (print, [1, 2], {"sep": ""}),
    (min, [1, 2], {}),  # has no signature
    (dict.fromkeys, [[1]], {}),
]


def shown(value: Any) -> str:
    """A value in a test's name, which must be the same in each process: without where it is in memory."""
    return re.sub(" at 0x[0-9a-f]+", "", str(value))[:40]


@pytest.mark.parametrize(("task", "args", "kwargs", "says"), REFUSED, ids=shown)
async def test_arguments_that_a_task_does_not_take_are_refused_by_every_call_and_nothing_is_stored(
    redsched_kit: Kit, task: Any, args: list[Any], kwargs: dict[str, Any], says: str
) -> None:
    scheduler = redsched_kit.scheduler
    options: Any = {"args": args, "kwargs": kwargs}
    for call in (
        lambda: scheduler.schedule_immediate_task("a", task, **options),
        lambda: scheduler.schedule_delayed_task("a", task, delay=5, **options),
        lambda: scheduler.schedule_at("a", task, "2031-01-01", **options),
        lambda: scheduler.schedule_cron("a", task, "@daily", **options),
        lambda: scheduler.schedule_interval("a", task, minutes=5, **options),
        lambda: scheduler.schedule("a", task, CronSchedule("@daily"), **options),
        lambda: scheduler.schedule_many([JobSpec("ok", anything), JobSpec("a", task, **options)]),
    ):
        with pytest.raises(InvalidInputError) as caught:
            await call()
        assert says in str(caught.value) and caught.value.field in ("args", "kwargs")
    assert await scheduler.get_jobs() == []


@pytest.mark.parametrize(("task", "args", "kwargs"), ACCEPTED, ids=shown)
async def test_arguments_that_a_task_takes_are_stored(
    redsched_kit: Kit, task: Any, args: list[Any], kwargs: dict[str, Any]
) -> None:
    if inspect.isbuiltin(task):
        redsched_kit.scheduler.register(task, name="c")
    handle = await redsched_kit.scheduler.schedule_delayed_task("a", task, delay=500, args=args, kwargs=kwargs)
    assert await handle.get() is not None


async def test_a_change_of_arguments_or_task_is_checked_before_it_is_stored(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_delayed_task("a", plain, delay=500, args=["a"])
    for changes, says in (
        ({"args": []}, "'order_id'"),
        ({"kwargs": {"minuts": 5}}, "did you mean minutes"),
        ({"task": only_named}, "positional"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            await scheduler.modify_job(handle.id, **changes)
    job = await handle.get()
    assert job is not None and job.args == ("a",) and job.version == 0
    changed = await scheduler.modify_job(handle.id, task=only_named, args=[], kwargs={"order_id": "a"})
    assert changed.kwargs == {"order_id": "a"}


async def test_a_task_that_this_process_does_not_know_takes_any_change(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    handle = await scheduler.schedule_delayed_task("a", plain, delay=500, args=["a"])
    other = type(scheduler)(scheduler.redis_url, scheduler.prefix)
    assert other.registry.known("nothing.of.that.name") is None
    changed = await other.modify_job(handle.id, args=[1, 2, 3, 4])
    assert changed.args == (1, 2, 3, 4)
    await other.shutdown()


def test_a_declared_job_without_the_arguments_of_its_task_is_refused_at_import() -> None:
    with pytest.raises(InvalidInputError, match="'order_id'"):
        schedule_task(cron="0 8 * * *", name="refused-at-import")(plain)


def test_job_refuses_what_the_function_does_not_take_when_it_is_called() -> None:
    with pytest.raises(InvalidInputError, match="'degrees'"):
        check_call("a", Oven.heat, [], {}, is_method=True)


parameters = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(list(inspect._ParameterKind)), st.booleans()),
    max_size=5,
    unique_by=lambda each: each[0],
)


@settings(max_examples=600, deadline=None)
@given(parameters, st.integers(0, 4), st.sets(st.sampled_from("abcde"), max_size=4), st.booleans())
def test_what_is_refused_is_what_python_refuses(given_parameters, count, names, is_method) -> None:
    """The quick answer from the code object is that of a call."""
    source, kinds = [], sorted(given_parameters, key=lambda each: (each[1], each[2]))
    marker = False
    if sum(kind == inspect.Parameter.VAR_POSITIONAL for _, kind, _ in kinds) > 1:
        return
    if sum(kind == inspect.Parameter.VAR_KEYWORD for _, kind, _ in kinds) > 1:
        return
    optional = False
    for at, (name, kind, has_default) in enumerate(kinds):
        star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(kind, "")
        if kind is inspect.Parameter.VAR_POSITIONAL:
            marker = True
        if kind is inspect.Parameter.KEYWORD_ONLY and not marker:
            source.append("*")
            marker = True
        if kind < inspect.Parameter.VAR_POSITIONAL:
            optional = has_default = has_default or optional
        source.append(f"{star}{name}" + ("=0" if has_default and not star else ""))
        last_positional = at + 1 == len(kinds) or kinds[at + 1][1] is not inspect.Parameter.POSITIONAL_ONLY
        if kind is inspect.Parameter.POSITIONAL_ONLY and last_positional:
            source.append("/")
    if is_method:
        source.insert(0, "self")
    namespace: dict[str, Any] = {}
    exec(f"def function({', '.join(source)}): return None", namespace)
    function = namespace["function"]
    args, kwargs = [0] * count, dict.fromkeys(names, 0)
    try:
        function(*([None] if is_method else []), *args, **kwargs)
        expected = True
    except TypeError:
        expected = False
    try:
        check_call("a", function, args, kwargs, is_method=is_method)
        found = True
    except InvalidInputError:
        found = False
    assert found is expected, source


class _Counter:
    def __call__(self, a: int, b: int = 0) -> None: ...


@pytest.mark.parametrize("function", [print, _Counter()], ids=["builtin", "callable"])
async def test_a_signature_is_read_once_for_each_shape_of_a_call(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch, function: Any
) -> None:
    read: list[Any] = []

    def counted(*args: Any, **kwargs: Any) -> inspect.Signature:
        read.append(args)
        return signature_of(*args, **kwargs)

    monkeypatch.setattr("redsched.tasks.binding.signature_of", counted)
    scheduler = redsched_kit.scheduler
    scheduler.register(function, name="task")
    await scheduler.schedule_many(JobSpec("job", function, args=[number]) for number in range(100))
    assert len(read) == 1
    await scheduler.schedule_many(JobSpec("job", function, args=[number, 1]) for number in range(100))
    assert len(read) == 2
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="cannot be called"):
            await scheduler.schedule_immediate_task("job", function, args=[1], kwargs={"unknown": 1})
    assert len(read) == 4, "what is refused is asked each time"
