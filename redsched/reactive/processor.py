"""`ReactiveTaskProcessor`: events become jobs. They come from an observable, an async iterator, or a Redis Stream."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

from redsched.errors import InvalidInputError, SchedulerStateError
from redsched.policies.retry import RetryPolicy
from redsched.reactive.streams import RedisStream, StreamEvent, consume, once_for_each
from redsched.reactive.subscription import Subscription
from redsched.runtime import forks
from redsched.tasks.registry import is_coroutine_function
from redsched.worker.tracebacks import log_error

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler

__all__ = ["ReactiveTaskProcessor"]

log = logging.getLogger("redsched.reactive")

Handler = Callable[[Any], Awaitable[Any]]

MAX_WAITING = 10_000
"""Events of one subscription that wait for its handler."""


@runtime_checkable
class _Observable(Protocol):
    def subscribe(self, on_next: Callable[[Any], None], /) -> Any: ...


class ReactiveTaskProcessor:
    """Subscribes handlers to streams of events; what they do is, as a rule, to schedule and cancel jobs.

    Handlers are coroutine functions; those of one subscription run one after the other, in the order of the events. One
    that raises is logged (and tried again, with `retry=`), and the next event follows (the specification, "Reactive
    Task Processing").

    >>> async def main() -> None:
    ...     async def events():
    ...         yield {"type": "order_placed", "order_id": "order-1"}
    ...         yield {"type": "order_cancelled", "order_id": "order-1"}
    ...     async with BackgroundTaskScheduler(url) as scheduler, ReactiveTaskProcessor(scheduler) as processor:
    ...         async def placed(event) -> None:
    ...             await scheduler.schedule_delayed_task("bake", print, delay_minutes=5, tags=[event["order_id"]])
    ...         async def cancelled(event) -> None:
    ...             print(await scheduler.cancel(tag=event["order_id"]))
    ...         subscription = processor.subscribe(events(), {"order_placed": placed, "order_cancelled": cancelled})
    ...         await subscription.task
    >>> asyncio.run(main())
    True
    """

    def __init__(self, scheduler: BackgroundTaskScheduler) -> None:
        self.scheduler = scheduler
        self._subscriptions: list[Subscription] = []
        forks.register(self)

    def after_fork(self) -> None:
        """The subscriptions are the parent's."""
        self._subscriptions = []

    def subscribe(
        self,
        source: Any,
        handler: Handler | Mapping[str, Handler],
        *,
        retry: RetryPolicy | None = None,
    ) -> Subscription:
        """Call the handler with each event of the source, until the processor is closed or the source ends.

        Args:
            source: any object with `subscribe(on_next)` (reactivex 6, rx 3, or your own), whose events may come from
                any thread; an async iterator; or a `RedisStream`, each of whose events has its effect once: see
                docs/guide/reactive.md.
            handler: a coroutine function, or one for each type of event (`event.type`, or `event["type"]`).
            retry: how often a handler that raises is tried again, here and now.

        Raises:
            InvalidInputError: the source is not supported, or a handler is not a coroutine function.
            SchedulerStateError: no event loop runs.
        """
        handle = _not_cancelled(_dispatcher(handler))
        if isinstance(source, RedisStream):
            handle = once_for_each(source, handle)
        if retry is not None:
            handle = retry.apply(handle)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SchedulerStateError("subscribe() is to be called in the event loop of the scheduler") from None
        name = getattr(handler, "__qualname__", "events")
        subscription = Subscription(name)
        if isinstance(source, RedisStream):
            work = consume(self.scheduler.client, source, handle, subscription)
        elif isinstance(source, AsyncIterable):
            work = _iterate(cast("AsyncIterable[Any]", source), handle, subscription)
        elif isinstance(source, _Observable):
            waiting = _Waiting(loop, subscription)
            disposable = source.subscribe(waiting.put)
            dispose = getattr(disposable, "dispose", disposable)
            subscription.dispose = dispose if callable(dispose) else subscription.dispose
            work = _work_off(waiting, handle, subscription)
        else:
            raise InvalidInputError(
                f"source is {source!r}; pass an object with subscribe(on_next), an async iterator, or a RedisStream",
                field="source",
            )
        subscription.task = loop.create_task(work, name=f"redsched events of {name}")
        subscription.task.add_done_callback(functools.partial(_ended, name))
        self._subscriptions.append(subscription)
        return subscription

    async def close(self, *, drain: bool = True) -> None:
        """End all subscriptions; events that were taken are handled first (`drain`), for five seconds at most.

        Raises:
            SchedulerStateError: one was made in another event loop, which still runs.
        """
        await asyncio.gather(*(subscription.close(drain=drain) for subscription in self._subscriptions))
        self._subscriptions = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(drain=kind is None)


class _Waiting:
    """Events that an observable gave, from whatever thread, and that wait for the handler."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subscription: Subscription) -> None:
        self._loop = loop
        self._subscription = subscription
        self._thread = threading.get_ident()
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, event: Any) -> None:
        """Called by the observable. After the end it does nothing, because not every source can be stopped.

        Raises:
            SchedulerStateError: too many events wait for the handler; this one is not accepted.
        """
        if self._subscription.closing:
            return
        if not self._subscription.take(MAX_WAITING):
            raise SchedulerStateError(f"{MAX_WAITING} events wait for their handler: this one is not taken")
        if threading.get_ident() == self._thread:
            self.queue.put_nowait(event)
        else:
            self._loop.call_soon_threadsafe(self.queue.put_nowait, event)


async def _work_off(waiting: _Waiting, handle: Handler, subscription: Subscription) -> None:
    while True:
        event = await waiting.queue.get()
        try:
            await _guarded(handle, event, subscription.name)
        finally:
            subscription.done()


async def _iterate(source: AsyncIterable[Any], handle: Handler, subscription: Subscription) -> None:
    async for event in source:
        async with subscription.one():
            await _guarded(handle, event, subscription.name)


async def _guarded(handle: Handler, event: Any, name: str) -> None:
    try:
        await handle(event)
    except Exception as error:
        log_error(error, "the handler %s raised for the event %r", name, event, to=log)


def _not_cancelled(handle: Handler) -> Handler:
    """A handler that awaits something which is cancelled has failed; that does not end its subscription."""

    async def handled(event: Any) -> None:
        try:
            await handle(event)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("what the handler awaited was cancelled") from error

    return handled


def _ended(name: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log_error(error, "the source of %s ended with an error: no more events come from it", name, to=log)


def _dispatcher(handler: Handler | Mapping[str, Handler]) -> Handler:
    """One handler out of one for each type."""
    if not isinstance(handler, Mapping):
        return _checked(handler)
    handlers = {kind: _checked(each) for kind, each in handler.items()}

    async def dispatch(event: Any) -> None:
        kind = event.get("type") if isinstance(event, Mapping | StreamEvent) else getattr(event, "type", None)
        chosen = handlers.get(str(kind))
        if chosen is None:
            log.debug("no handler for events of the type %r", kind)
        else:
            await chosen(event)

    return dispatch


def _checked(handler: Any) -> Handler:
    if not callable(handler) or not is_coroutine_function(handler):
        raise InvalidInputError(f"handler is {handler!r}; it must be a coroutine function", field="handler")
    return cast("Handler", handler)
