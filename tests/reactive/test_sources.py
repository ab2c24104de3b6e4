"""Events of observables and async iterators reach their handlers: each once, in order, from any thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import reactivex
import rx
import rx.subject

from redsched import InvalidInputError, ReactiveTaskProcessor, RetryPolicy, SchedulerStateError
from redsched.reactive import processor as reactive
from redsched.testing import Kit


class Plain:
    """The least that has a subscribe method."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []

    def subscribe(self, on_next: Callable[[Any], None]) -> None:
        self.callbacks.append(on_next)

    def on_next(self, event: Any) -> None:
        for callback in self.callbacks:
            callback(event)


SUBJECTS: dict[str, Callable[[], Any]] = {"reactivex": reactivex.Subject, "rx": rx.subject.Subject, "plain": Plain}


@pytest.fixture
async def processor(redsched_kit: Kit) -> AsyncIterator[ReactiveTaskProcessor]:
    async with ReactiveTaskProcessor(redsched_kit.scheduler) as made:
        yield made


@pytest.mark.parametrize("kind", SUBJECTS)
async def test_each_event_reaches_the_handler_once_and_in_order(processor: ReactiveTaskProcessor, kind: str) -> None:
    subject, seen = SUBJECTS[kind](), list[int]()

    async def handle(event: int) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    subscription = processor.subscribe(subject, handle)
    for number in range(100):
        subject.on_next(number)
    await subscription.close()
    assert seen == list(range(100))
    subject.on_next(100)
    await asyncio.sleep(0)
    assert len(seen) == 100, "a closed subscription takes nothing"


@pytest.mark.parametrize("kind", SUBJECTS)
async def test_events_may_come_from_other_threads(processor: ReactiveTaskProcessor, kind: str) -> None:
    subject, seen = SUBJECTS[kind](), list[tuple[int, int]]()

    async def handle(event: tuple[int, int]) -> None:
        seen.append(event)

    subscription = processor.subscribe(subject, handle)

    def give(thread: int) -> None:
        for number in range(200):
            subscription_put((thread, number))

    subscription_put = subject.on_next
    threads = [threading.Thread(target=give, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    await subscription.close()
    assert sorted(seen) == [(thread, number) for thread in range(4) for number in range(200)]
    for thread in range(4):
        assert [n for t, n in seen if t == thread] == list(range(200)), "in the order of each thread"


async def test_an_async_iterator_is_read_as_fast_as_its_events_are_handled(processor: ReactiveTaskProcessor) -> None:
    read, handled = list[int](), list[int]()

    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            read.append(number)
            yield number

    async def handle(event: int) -> None:
        await asyncio.sleep(0)
        assert read[-1] == event, "it is not read ahead"
        handled.append(event)

    subscription = processor.subscribe(numbers(), handle)
    assert subscription.task is not None
    await subscription.task
    assert handled == [0, 1, 2, 3, 4]


async def test_a_handler_for_each_type(processor: ReactiveTaskProcessor) -> None:
    subject, seen = Plain(), list[tuple[str, Any]]()

    async def placed(event: Any) -> None:
        seen.append(("placed", event))

    async def cancelled(event: Any) -> None:
        seen.append(("cancelled", event))

    subscription = processor.subscribe(subject, {"order_placed": placed, "order_cancelled": cancelled})
    subject.on_next(first := SimpleNamespace(type="order_placed"))
    subject.on_next(second := {"type": "order_cancelled"})
    subject.on_next({"type": "order_eaten"})
    subject.on_next("no event at all")
    await subscription.close()
    assert seen == [("placed", first), ("cancelled", second)]


async def test_a_handler_that_raises_is_logged_and_the_next_event_follows(
    processor: ReactiveTaskProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    subject, seen = Plain(), list[int]()

    async def handle(event: int) -> None:
        if event == 1:
            raise ValueError("no basil")
        seen.append(event)

    subscription = processor.subscribe(subject, handle)
    with caplog.at_level(logging.ERROR):
        for number in range(3):
            subject.on_next(number)
        await subscription.close()
    assert seen == [0, 2]
    assert "no basil" in caplog.text


async def test_a_handler_is_tried_again_if_a_policy_says_so(processor: ReactiveTaskProcessor) -> None:
    subject, calls = Plain(), list[int]()

    async def handle(event: int) -> None:
        calls.append(event)
        if len(calls) < 3:
            raise ConnectionError

    subscription = processor.subscribe(subject, handle, retry=RetryPolicy(max_attempts=5, initial_delay=0))
    subject.on_next(7)
    await subscription.close()
    assert calls == [7, 7, 7]


async def test_events_that_nobody_can_keep_up_with_are_refused_to_their_source(
    processor: ReactiveTaskProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactive, "MAX_WAITING", 3)
    subject = Plain()

    async def handle(event: int) -> None:
        await asyncio.Event().wait()

    subscription = processor.subscribe(subject, handle)
    for number in range(3):
        subject.on_next(number)
    with pytest.raises(SchedulerStateError, match="3 events wait"):
        subject.on_next(3)
    await subscription.close(drain=False)


async def test_a_source_that_ends_with_an_error_is_told(
    processor: ReactiveTaskProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("the cable is out")

    async def handle(event: int) -> None: ...

    subscription = processor.subscribe(broken(), handle)
    assert subscription.task is not None
    with caplog.at_level(logging.ERROR):
        await asyncio.wait((subscription.task,))
        await asyncio.sleep(0)
    assert "the cable is out" in caplog.text


@pytest.mark.parametrize("source", [None, 5, [1, 2], "orders"])
async def test_what_is_no_source_is_refused(processor: ReactiveTaskProcessor, source: Any) -> None:
    async def handle(event: Any) -> None: ...

    with pytest.raises(InvalidInputError, match="source"):
        processor.subscribe(source, handle)


@pytest.mark.parametrize("handler", [None, 5, print, lambda event: None, {"order_placed": print}])
async def test_a_handler_that_is_no_coroutine_function_is_refused(
    processor: ReactiveTaskProcessor, handler: Any
) -> None:
    with pytest.raises(InvalidInputError, match="coroutine function"):
        processor.subscribe(Plain(), handler)


def test_to_subscribe_needs_the_event_loop(redsched_url: str) -> None:
    async def handle(event: Any) -> None: ...

    with pytest.raises(SchedulerStateError, match="in the event loop"):
        ReactiveTaskProcessor(None).subscribe(Plain(), handle)  # type: ignore[arg-type]


def test_rx_and_reactivex_are_the_real_ones() -> None:
    assert rx.__version__.startswith("3.")
    assert int(reactivex.__version__.split(".")[0]) >= 4
