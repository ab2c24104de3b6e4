"""Parameters by annotation: who provides them, in which order, where, and that they always end."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    CustomTaskExecutor,
    InvalidInputError,
    Outcome,
    Provide,
    Reason,
    RetryPolicy,
    schedule_task,
)
from redsched.testing import Kit, fresh_prefix, kit
from tests.hooks import providers
from tests.hooks.providers import log

SESSION = "session of pool"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    log.clear()


async def end_of(the_kit: Kit, task: Any, **options: Any) -> Any:
    handle = await the_kit.scheduler.schedule_immediate_task("task", task, **options)
    await the_kit.run_due()
    return await handle.result(timeout=10)


# -- what is passed -------------------------------------------------------------------------------------------------


async def test_a_parameter_is_provided_beside_the_jobs_arguments(redsched_kit: Kit) -> None:
    result = await end_of(redsched_kit, providers.report, args=["order-1"], kwargs={"tone": "soft"})
    assert result.result == ["order-1", SESSION, "soft"]
    assert log == ["pool", "session begins", "task", "session ends"]


async def test_it_may_stand_before_the_arguments_of_the_job(redsched_kit: Kit) -> None:
    assert (await end_of(redsched_kit, providers.session_first, args=["order-1"])).result == [SESSION, "order-1"]
    by_name = await end_of(redsched_kit, providers.session_first, kwargs={"order_id": "order-2"})
    assert by_name.result == [SESSION, "order-2"]


async def test_the_jobs_that_a_decorated_task_makes_leave_it_out(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.submit(providers.report.job("order-1"))
    await redsched_kit.run_due()
    assert (await handle.result(timeout=5)).result == ["order-1", SESSION, "loud"]


async def test_providers_need_providers_are_called_once_a_run_and_end_in_reverse(redsched_kit: Kit) -> None:
    result = await end_of(redsched_kit, providers.both)
    assert result.result == [f"repository in {SESSION}", SESSION]
    assert log == ["pool", "session begins", "repository begins", "task", "repository ends", "session ends"]


async def test_context_managers_are_entered_and_left(redsched_kit: Kit) -> None:
    assert (await end_of(redsched_kit, providers.by_context_managers)).result == ["async", "plain"]
    assert log == ["plain left", "async left"]


async def test_a_provider_may_use_the_run(redsched_kit: Kit) -> None:
    result = await end_of(redsched_kit, providers.run_id)
    assert result.result == result.run_id


async def test_what_a_plain_function_needs_is_made_and_ended_in_its_thread(redsched_kit: Kit) -> None:
    result = await end_of(redsched_kit, providers.plain, args=["order-1"])
    assert result.result == ["order-1", True, SESSION]
    thread = log[2]
    assert thread != threading.get_ident()
    assert log == ["pool", "session begins", thread, "task", thread, "session ends"]


async def test_class_based_tasks_and_methods_get_theirs(redsched_kit: Kit) -> None:
    assert (await end_of(redsched_kit, providers.Remind, args=["order-1"])).result == ["order-1", SESSION]
    oven = providers.Oven()
    redsched_kit.scheduler.bind(oven)
    assert (await end_of(redsched_kit, oven.heat, args=[220])).result == [220, SESSION]


async def test_a_custom_executor_calls_the_task_with_the_jobs_arguments_alone(redsched_kit: Kit) -> None:
    class Notes(CustomTaskExecutor):
        async def execute_task(self, task_func: Any, *args: Any, **kwargs: Any) -> Any:
            log.append((args, kwargs))
            return await task_func(*args, **kwargs)

    redsched_kit.scheduler.add_executor("notes", Notes())
    result = await end_of(redsched_kit, providers.report, args=["order-1"], executor="notes")
    assert result.result == ["order-1", SESSION, "loud"]
    assert (("order-1",), {}) in log


async def test_without_a_provider_it_is_the_service_providers_instance(redsched_url: str) -> None:
    class Services:
        def get_service(self, type_: type[Any]) -> Any:
            return providers.Pool() if type_ is providers.Pool else None

    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), service_provider=Services())
    async with kit(scheduler) as the_kit:
        assert (await end_of(the_kit, providers.with_service)).result == "pool"


async def test_a_service_that_is_not_there_fails_the_run_with_its_name(redsched_kit: Kit) -> None:
    result = await end_of(redsched_kit, providers.with_service)
    assert "no instance of Pool can be provided: this scheduler has no service_provider" in (result.error or "")


# -- that it ends ---------------------------------------------------------------------------------------------------


async def test_it_ends_after_each_attempt_and_sees_the_error(redsched_kit: Kit) -> None:
    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "task", providers.failing, retry=RetryPolicy(max_attempts=2, initial_delay=1)
    )
    await redsched_kit.advance(seconds=5)
    result = await handle.result(timeout=5)
    assert (result.reason, result.error) == (Reason.ATTEMPTS_USED_UP, "ValueError: bad dough")
    assert log == ["pool", "session begins", "session saw ValueError"] * 2


async def hang(session: providers.Session) -> None:
    log.append("task")
    await asyncio.sleep(60)


async def test_it_ends_when_the_attempt_times_out(redsched_kit: Kit) -> None:
    result = await end_of(redsched_kit, hang, timeout=0.1)
    assert result.reason is Reason.TIMEOUT
    assert log == ["pool", "session begins", "task", "session saw TaskTimeoutError"]


async def test_it_ends_when_the_run_is_cancelled(redsched_url: str) -> None:
    async with BackgroundTaskScheduler(redsched_url, fresh_prefix()) as scheduler:
        begun = asyncio.Event()

        async def wait(session: providers.Session) -> None:
            begun.set()
            await asyncio.sleep(60)

        handle = await scheduler.schedule_immediate_task("task", wait)
        await begun.wait()
        await handle.cancel()
        assert (await handle.result(timeout=5)).outcome is Outcome.CANCELLED
        await scheduler.clear_all_jobs()
    assert log == ["pool", "session begins", "session saw CancelledError"]


async def test_those_that_are_there_end_when_a_later_one_fails(redsched_kit: Kit) -> None:
    def broken(session: providers.Session) -> str:
        raise LookupError("no oven")

    async def task(oven: Annotated[str, Provide(broken)]) -> None:
        log.append("task")

    result = await end_of(redsched_kit, task)
    assert result.error == "LookupError: no oven"
    assert log == ["pool", "session begins", "session saw LookupError"]


async def test_the_time_of_setting_up_counts_for_the_timeout(redsched_kit: Kit) -> None:
    async def slow() -> str:
        await asyncio.sleep(60)
        return ""

    async def task(value: Annotated[str, Provide(slow)]) -> None: ...

    assert (await end_of(redsched_kit, task, timeout=0.1)).reason is Reason.TIMEOUT


async def test_an_error_at_the_end_fails_an_attempt_that_succeeded(redsched_kit: Kit) -> None:
    async def commit() -> AsyncGenerator[str]:
        yield ""
        raise ConnectionError("the commit failed")

    async def task(session: providers.Session, unit: Annotated[str, Provide(commit)]) -> str:
        return "done"

    result = await end_of(redsched_kit, task)
    assert (result.outcome, result.error) == (Outcome.DEAD, "ConnectionError: the commit failed")
    assert log[-1] == "session saw ConnectionError"


async def test_an_error_at_the_end_does_not_replace_that_of_the_task(
    redsched_kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    async def rollback() -> AsyncGenerator[str]:
        try:
            yield ""
        finally:
            raise ConnectionError("the rollback failed")

    async def task(unit: Annotated[str, Provide(rollback)]) -> None:
        raise ValueError("bad dough")

    result = await end_of(redsched_kit, task)
    assert result.error == "ValueError: bad dough"
    assert "rollback raised at the end of run" in caplog.text


async def test_one_that_swallows_the_error_does_not_make_the_attempt_succeed(redsched_kit: Kit) -> None:
    def swallow() -> Iterator[str]:
        try:
            yield ""
        except ValueError:
            log.append("swallowed")

    async def task(unit: Annotated[str, Provide(swallow)]) -> None:
        raise ValueError("bad dough")

    assert (await end_of(redsched_kit, task)).error == "ValueError: bad dough"
    assert log == ["swallowed"]


async def test_a_function_whose_run_timed_out_keeps_what_its_thread_has_until_it_ends(redsched_kit: Kit) -> None:
    release, ended = threading.Event(), threading.Event()

    def connection() -> Iterator[str]:
        yield "open"
        log.append("closed")
        ended.set()

    def task(value: Annotated[str, Provide(connection)]) -> None:
        release.wait(20)
        log.append("used")

    assert (await end_of(redsched_kit, task, timeout=0.1)).reason is Reason.TIMEOUT
    assert log == []
    release.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert log == ["used", "closed"]


@pytest.mark.parametrize("yields", [0, 2])
async def test_a_provider_that_does_not_yield_once_is_named(redsched_kit: Kit, yields: int) -> None:
    async def odd() -> AsyncGenerator[int]:
        for number in range(yields):
            yield number

    def odd_plain() -> Iterator[int]:
        yield from range(yields)

    async def task(value: Annotated[int, Provide(odd)]) -> None: ...
    async def other(value: Annotated[int, Provide(odd_plain)]) -> None: ...

    for function in (task, other):
        result = await end_of(redsched_kit, function)
        assert result.outcome is Outcome.DEAD
        assert "must yield the value once" in (result.error or "")


# -- what is refused ------------------------------------------------------------------------------------------------


async def refusal(scheduler: BackgroundTaskScheduler, task: Any, **options: Any) -> str:
    with pytest.raises(InvalidInputError) as raised:
        await scheduler.schedule_immediate_task("task", task, **options)
    return str(raised.value)


async def test_a_job_cannot_pass_it(redsched_kit: Kit) -> None:
    for task, kwargs in (
        (providers.report, {"order_id": "order-1", "session": "mine"}),
        (providers.Remind, {"order_id": "order-1", "session": "mine"}),
    ):
        said = await refusal(redsched_kit.scheduler, task, kwargs=kwargs)
        assert "'session' is provided by get_session; a job cannot pass it" in said
    said = await refusal(redsched_kit.scheduler, providers.session_first, args=["order-1", None, "surplus"])
    assert "too many positional arguments" in said


async def test_its_own_arguments_are_checked_as_ever(redsched_kit: Kit) -> None:
    assert "missing a required argument: 'order_id'" in await refusal(redsched_kit.scheduler, providers.report)
    said = await refusal(redsched_kit.scheduler, providers.report, args=["order-1"], kwargs={"tune": "soft"})
    assert "did you mean tone?" in said


async def test_a_job_that_was_stored_when_it_was_no_provided_one_fails_with_the_reason(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler

    async def before(session: str) -> None: ...
    async def now(session: providers.Session) -> None: ...

    scheduler.register(before, name="deployed")
    handle = await scheduler.schedule_immediate_task("task", before, kwargs={"session": "mine"})
    worker = BackgroundTaskScheduler(scheduler.redis_url, scheduler.prefix)
    worker.register(now, name="deployed")
    async with kit(worker, clean=False) as other:
        await other.run_due()
    result = await handle.result(timeout=5)
    assert result.outcome is Outcome.DEAD
    assert "a job cannot pass it" in (result.error or "")


async def test_a_process_pool_is_refused_when_the_job_is_scheduled_and_by_another_name_when_it_runs(
    redsched_kit: Kit,
) -> None:
    scheduler = redsched_kit.scheduler
    options: dict[str, Any] = {"args": ["order-1"]}
    said = await refusal(scheduler, providers.report, executor="processpool", **options)
    assert "its parameter 'session' is provided" in said
    scheduler.add_executor("cpu", {"type": "processpool"})
    result = await end_of(redsched_kit, providers.report, executor="cpu", **options)
    assert "cannot run in a process pool: its parameter 'session' is provided" in (result.error or "")
    assert log == []


def unprovided(name: str) -> str:
    return name


def circular(other: Annotated[str, Provide(lambda: None)]) -> str:
    return other


circular.__annotations__["other"] = Annotated[str, Provide(circular)]


@pytest.mark.parametrize(
    ("hint", "what"),
    [
        (Annotated[str, Provide(unprovided)], "unprovided has a parameter 'name' that is neither provided nor"),
        (Annotated[str, Provide(circular)], "providers need each other: circular -> circular"),
        (Annotated[str, Provide(unprovided), Provide(circular)], "'value' has two providers"),
        (Annotated["str | None", Provide()], r"Provide\(\) without a provider requires a class"),
        ("Annotated[int, Provide(get_value)]", "annotation of 'value' cannot be read"),
    ],
)
async def test_a_parameter_that_cannot_be_provided_is_refused_before_anything_is_stored(
    redsched_kit: Kit, hint: Any, what: str
) -> None:
    def task(value: Any) -> None: ...

    task.__annotations__["value"] = hint
    with pytest.raises(InvalidInputError, match=what):
        await redsched_kit.scheduler.schedule_immediate_task("task", task)
    assert await redsched_kit.scheduler.get_jobs() == []


async def test_positional_only_and_variable_parameters_are_refused(redsched_kit: Kit) -> None:
    def positional(session: providers.Session, /) -> None: ...
    def variable(*session: providers.Session) -> None: ...

    for task in (positional, variable):
        assert "'session' cannot be provided" in await refusal(redsched_kit.scheduler, task)


def test_what_cannot_be_called_is_no_provider() -> None:
    with pytest.raises(InvalidInputError, match="must be a function or a class"):
        Provide("get_session")  # pyright: ignore[reportArgumentType]


def test_a_declared_task_may_name_a_provider_that_its_module_defines_further_down() -> None:
    def nightly(value: Any) -> None: ...

    nightly.__annotations__["value"] = "Annotated[int, Provide(defined_further_down)]"
    scheduler = BackgroundTaskScheduler()
    schedule_task(cron="0 2 * * *", scheduler=scheduler, name="nightly")(nightly)
    assert [spec.name for spec in scheduler.declared] == ["nightly"]


def test_a_function_without_annotations_costs_no_look_at_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    from redsched.tasks import provide

    def refuse(*_: Any) -> Any:
        raise AssertionError("the signature was read")

    monkeypatch.setattr(provide, "signature_of", refuse)
    assert provide.needs_of(lambda order_id: order_id, is_method=False) == (None, True)


async def test_annotations_are_read_once_for_a_task(redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    from redsched.tasks import task as tasks

    reads: list[str] = []
    real = tasks.needs_of

    def count(function: Any, *, is_method: bool) -> Any:
        reads.append(function.__qualname__)
        return real(function, is_method=is_method)

    monkeypatch.setattr(tasks, "needs_of", count)
    for number in range(3):
        await end_of(redsched_kit, read_once, args=[str(number)])
    assert reads == ["read_once"]


async def read_once(order_id: str, session: providers.Session) -> str:
    return order_id
