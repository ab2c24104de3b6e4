"""The parts of its framework that the page imports and neuroglia-python 0.9.4 lacks: the least that it implies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import reactivex

T = TypeVar("T")


class DomainEvent:
    """A base class that takes no argument."""


class EventHandler(Generic[T]):
    """A base class that is generic over its event."""


class StreamProcessor:
    """A base class."""


class _Subject:
    """A subject of reactivex whose subscribers are coroutine functions: redsched awaits them."""

    processor: Any = None
    """The `ReactiveTaskProcessor` that the test made."""

    def __init__(self) -> None:
        self.source: reactivex.Subject[Any] = reactivex.Subject()

    def subscribe(self, handler: Callable[[Any], Awaitable[None]]) -> None:
        self.processor.subscribe(self.source, handler)

    def on_next(self, event: Any) -> None:
        self.source.on_next(event)


class Observable:
    """Where subjects come from."""

    create_subject = _Subject
