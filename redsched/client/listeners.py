"""The listeners of a scheduler: `add_listener`, and the feeds of events that call them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redsched.client.core import Client
from redsched.client.event_reader import EventFeed, Listener
from redsched.runtime.loops import Owner, PerLoop

__all__ = ["Listeners"]


class Listeners:
    """Known from the first on; called once `ensure` was awaited."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._feeds = PerLoop(self._make_feed)
        self._feed: EventFeed | None = None
        """Of the feeds, one a loop, that which the listeners get."""
        self._listeners: list[tuple[Listener, Sequence[str] | None]] = []
        self.starting: asyncio.Task[EventFeed] | None = None  # kept, or the loop would forget it

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def add(self, listener: Listener, kinds: Sequence[str] | None, owner: Owner | None) -> None:
        """Call it with each event from now on.

        Args:
            owner: of the event loop in which the scheduler is started; None = it is not.
        """
        self._listeners.append((listener, kinds))
        if self._feed is not None:
            self._feed.add(listener, kinds)
        elif owner is not None:
            owner.call(self._start)

    def remove(self, listener: Listener) -> None:
        """Stop calling it."""
        self._listeners = [(known, kinds) for known, kinds in self._listeners if known is not listener]
        if self._feed is not None:
            self._feed.remove(listener)

    def _start(self) -> None:
        self.starting = asyncio.create_task(self.ensure())

    def _make_feed(self) -> EventFeed:
        store = self._client.opened
        assert store is not None
        return EventFeed(store)

    async def ensure(self) -> EventFeed:
        """The feed of the running loop, which reads. That of the loop which asks first is the listeners'."""
        await self._client.store()
        feed = self._feeds.get()
        if self._feed is None or self._feed.is_over:
            self._feed = feed
            for listener, kinds in self._listeners:
                feed.add(listener, kinds)
        await feed.ensure()
        return feed

    def forget(self) -> None:
        """The feed is another process', or its loop is gone."""
        self._feed = self.starting = None

    async def close(self) -> None:
        """Stop reading. The listeners stay known."""
        self._feed = None
        await self._feeds.close()
