"""A circuit breaker: one circuit for all processes, changed atomically, and a run that it holds back is not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    CircuitBreakerPolicy,
    CircuitOpenError,
    InvalidInputError,
    Reason,
    RetryPolicy,
    SchedulerStateError,
    State,
    current_scheduler,
)
from redsched.testing import Kit, fresh_prefix, kit
from redsched.worker.circuits import guard

POLICY = CircuitBreakerPolicy(failure_threshold=3, recovery_timeout=60, success_threshold=2, name="payments")
is_down = True
calls: list[Any] = []


async def charge(order_id: str = "order-1") -> str:
    calls.append(order_id)
    if is_down:
        raise ConnectionError("the bank does not answer")
    return f"charged {order_id}"


@POLICY.apply
async def charge_guarded(order_id: str) -> str:
    return await charge(order_id)


async def wrong_argument() -> None:
    calls.append(1)
    raise KeyError("not the bank's fault")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    global is_down
    is_down = True
    calls.clear()


def recover() -> None:
    global is_down
    is_down = False


async def call(kit: Kit, policy: CircuitBreakerPolicy = POLICY) -> str:
    """One call through the circuit: what came of it, in a word."""
    try:
        await guard(policy, await kit.scheduler.store(), "payments", charge)
    except CircuitOpenError as error:
        return f"open for {error.retry_after:g} s"
    except ConnectionError:
        return "failed"
    return "ok"


async def test_so_many_failures_in_a_row_open_it_and_then_nothing_is_called(redsched_kit: Kit) -> None:
    assert [await call(redsched_kit) for _ in range(3)] == ["failed"] * 3
    assert (await call(redsched_kit)).startswith("open for ")
    assert len(calls) == 3


async def test_a_success_between_failures_keeps_it_closed(redsched_kit: Kit) -> None:
    for _ in range(3):
        assert [await call(redsched_kit) for _ in range(2)] == ["failed"] * 2
        recover()
        assert await call(redsched_kit) == "ok"
        globals()["is_down"] = True
    assert [await call(redsched_kit) for _ in range(3)] == ["failed"] * 3


async def test_after_the_recovery_timeout_so_many_successes_close_it(redsched_kit: Kit) -> None:
    for _ in range(3):
        await call(redsched_kit)
    recover()
    await redsched_kit.travel(seconds=59)
    assert (await call(redsched_kit)).startswith("open")
    await redsched_kit.travel(seconds=1)
    assert [await call(redsched_kit) for _ in range(2)] == ["ok"] * 2
    globals()["is_down"] = True
    assert [await call(redsched_kit) for _ in range(2)] == ["failed"] * 2, "it is closed, and counts from zero"
    recover()
    assert await call(redsched_kit) == "ok"


async def test_one_failure_of_a_trial_opens_it_again(redsched_kit: Kit) -> None:
    for _ in range(3):
        await call(redsched_kit)
    await redsched_kit.travel(seconds=60)
    assert await call(redsched_kit) == "failed"
    told = (await call(redsched_kit)).removeprefix("open for ").removesuffix(" s")
    assert 59 < float(told) <= 60  # some of it has passed


async def test_no_more_trials_at_once_than_close_it_and_one_that_never_tells_frees_its_place(redsched_kit: Kit) -> None:
    for _ in range(3):
        await call(redsched_kit)
    await redsched_kit.travel(seconds=60)
    store = await redsched_kit.scheduler.store()
    shard = store.shard("payments")

    async def enter(token: str) -> str:
        return (await shard.circuit("payments", "enter", token, 3, 60_000, 2))[0]

    assert [await enter(token) for token in ("a", "b", "c", "a")] == ["half_open", "half_open", "open", "half_open"]
    await redsched_kit.travel(seconds=61)
    assert await enter("c") == "half_open"


async def test_what_is_sent_again_is_counted_once(redsched_kit: Kit) -> None:
    shard = (await redsched_kit.scheduler.store()).shard("payments")
    for _ in range(5):
        assert (await shard.circuit("payments", "failure", "one", 2, 60_000, 1))[0] == "closed"
    assert (await shard.circuit("payments", "failure", "two", 2, 60_000, 1))[0] == "open"


async def test_exceptions_that_say_nothing_of_the_circuit_do_not_count(redsched_kit: Kit) -> None:
    policy = CircuitBreakerPolicy(failure_threshold=1, name="payments", failure_on=(ConnectionError,))
    store = await redsched_kit.scheduler.store()
    for _ in range(3):
        with pytest.raises(KeyError):
            await guard(policy, store, "payments", wrong_argument)
    assert await call(redsched_kit, policy) == "failed"
    assert (await call(redsched_kit, policy)).startswith("open")


async def test_schedulers_of_one_prefix_share_a_circuit(redsched_kit: Kit, redsched_url: str) -> None:
    other = BackgroundTaskScheduler(redsched_url, redsched_kit.scheduler.prefix)
    async with kit(other, clean=False) as second:
        assert [await call(k) for k in (redsched_kit, second, redsched_kit)] == ["failed"] * 3
        assert (await call(second)).startswith("open")


async def test_an_open_circuit_postpones_the_run_without_using_an_attempt(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for _ in range(3):
        await call(redsched_kit)
    calls.clear()
    handle = await scheduler.schedule_immediate_task("charge", charge, circuit_breaker=POLICY, max_attempts=2)
    await redsched_kit.run_due()
    job = await handle.get()
    assert job is not None
    assert (job.state, job.attempt, job.reason, calls) == (State.SCHEDULED, 0, Reason.CIRCUIT_OPEN, [])
    await redsched_kit.wait_for("postponed", handle.id)
    recover()
    await redsched_kit.advance(seconds=61)
    assert (await handle.result(timeout=5)).result == "charged order-1"


async def hangs() -> None:
    calls.append("hangs")
    await asyncio.sleep(30 if is_down else 0)


@pytest.mark.parametrize("kind", ["option", "timeout", "wrapped"])
async def test_a_trial_that_fails_postpones_its_run_without_using_an_attempt(redsched_kit: Kit, kind: str) -> None:
    scheduler = redsched_kit.scheduler
    for _ in range(3):
        await call(redsched_kit)
    calls.clear()
    settings: dict[str, Any] = {} if kind == "wrapped" else {"circuit_breaker": POLICY}
    task: Any = {"option": charge, "timeout": hangs, "wrapped": charge_guarded}[kind]
    if kind == "timeout":
        settings["timeout"] = 0.1
    else:
        settings["args"] = ["order-1"]
    handle = await scheduler.schedule_immediate_task("charge", task, max_attempts=1, **settings)
    await redsched_kit.advance(seconds=250)  # four trials
    assert len(calls) >= 3
    job = await handle.get()
    assert job is not None
    assert (job.state, job.attempt, job.reason) == (State.SCHEDULED, 0, Reason.CIRCUIT_OPEN)
    recover()
    await redsched_kit.advance(seconds=140)
    ended = await handle.result(timeout=5)
    assert (ended.success, ended.attempt) == (True, 1)


async def test_another_run_is_the_next_trial(redsched_kit: Kit) -> None:
    one_trial = CircuitBreakerPolicy(failure_threshold=1, recovery_timeout=60, name="one trial")
    await call(redsched_kit, one_trial)
    calls.clear()
    for name in ("a", "b"):
        await redsched_kit.scheduler.schedule_immediate_task("charge", charge, args=[name], circuit_breaker=one_trial)
    await redsched_kit.advance(seconds=130)
    assert sorted(calls) == ["a", "b"]


async def test_a_run_of_at_most_once_is_not_started_again_where_its_trial_failed(redsched_kit: Kit) -> None:
    for _ in range(3):
        await call(redsched_kit)
    handle = await redsched_kit.scheduler.schedule_immediate_task(
        "charge", charge, circuit_breaker=POLICY, delivery="at_most_once"
    )
    await redsched_kit.advance(seconds=61)
    assert (await handle.result(timeout=5)).outcome == "dead"


async def test_the_failures_of_runs_open_it(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for number in range(5):
        await scheduler.schedule_immediate_task("charge", charge, args=[str(number)], circuit_breaker=POLICY)
        await redsched_kit.run_due()
    assert len(calls) == 3
    assert len(await scheduler.get_jobs(state="scheduled")) == 2


async def test_a_periodic_job_is_held_back_too_and_its_fires_coalesce(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("charge", charge, seconds=20, circuit_breaker=POLICY, job_id="periodic")
    await redsched_kit.advance(seconds=60)
    assert len(calls) == 3
    await redsched_kit.advance(seconds=55)
    assert len(calls) == 3
    recover()
    await redsched_kit.advance(seconds=10)
    assert len(calls) == 4
    history = await scheduler.get_history("periodic")
    assert {event.reason for event in history if event.kind == "postponed"} == {Reason.CIRCUIT_OPEN}


async def test_a_task_that_is_wrapped_itself_is_postponed_as_well(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for _ in range(3):
        await call(redsched_kit)
    calls.clear()
    handle = await scheduler.schedule_immediate_task("charge", charge_guarded, args=["order-2"])
    await redsched_kit.run_due()
    recover()
    await redsched_kit.advance(seconds=61)
    assert (await handle.result(timeout=5)).result == "charged order-2"
    assert calls == ["order-2"]


async def test_a_wrapped_function_uses_the_only_scheduler_that_is_started(redsched_url: str) -> None:
    recover()
    with pytest.raises(SchedulerStateError, match="0 are started"):
        await charge_guarded("order-3")
    async with BackgroundTaskScheduler(redsched_url, fresh_prefix()) as scheduler:
        assert current_scheduler() is scheduler
        assert await charge_guarded("order-3") == "charged order-3"
        async with BackgroundTaskScheduler(redsched_url, fresh_prefix()):
            with pytest.raises(SchedulerStateError, match="2 are started"):
                current_scheduler()
        await scheduler.clear_all_jobs()


async def test_a_retry_around_it_does_not_wait_for_an_open_circuit(redsched_kit: Kit) -> None:
    store = await redsched_kit.scheduler.store()

    @RetryPolicy(max_attempts=10, initial_delay=0).apply
    async def insist() -> str:
        return await guard(POLICY, store, "payments", charge)

    with pytest.raises(CircuitOpenError):
        await insist()
    assert len(calls) == 3


class ResilientOrderProcessor:
    """The page's, with the policies where Python can find them: in attributes of the instance."""

    def __init__(self) -> None:
        self.circuit_breaker = CircuitBreakerPolicy(failure_threshold=2, recovery_timeout=60, name="processor")
        self.retry_policy = RetryPolicy(max_attempts=2, initial_delay=0)

    @CircuitBreakerPolicy.from_instance("circuit_breaker")
    @RetryPolicy.from_instance("retry_policy")
    async def process_payment_task(self, order_id: str) -> str:
        return await charge(order_id)


async def test_policies_can_be_taken_from_the_instance(redsched_kit: Kit) -> None:
    processor = ResilientOrderProcessor()
    scheduler = redsched_kit.scheduler
    scheduler.bind(processor)
    for number in range(3):
        await scheduler.schedule_immediate_task("pay", processor.process_payment_task, args=[f"order-{number}"])
        await redsched_kit.run_due()
    assert calls == ["order-0", "order-0", "order-1", "order-1"], "the retry is inside, the circuit outside"


async def test_a_worker_that_is_cancelled_in_a_call_leaves_the_circuit_as_it_was(redsched_kit: Kit) -> None:
    store = await redsched_kit.scheduler.store()
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(guard(POLICY, store, "payments", hang))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [await call(redsched_kit) for _ in range(3)] == ["failed"] * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_threshold", 0), ("failure_threshold", True), ("failure_threshold", 2.0), ("success_threshold", -1),
        ("recovery_timeout", 0), ("recovery_timeout", float("nan")), ("recovery_timeout", "60"), ("name", ""),
        ("name", 7), ("failure_on", ()), ("failure_on", ("ValueError",)), ("failure_on", ValueError),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        CircuitBreakerPolicy(**{field: value})
    assert caught.value.field == field
    assert field in str(caught.value)
