"""Tells Redis that a worker lives though its event loop stands still: from another process, or another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redsched.store.store import Store
from redsched.store.wire import Resend

__all__ = ["Voucher"]


class Voucher:
    """Connections to the worker's Redis, and an event loop for them. Made without I/O.

    Args:
        worker: its id.
        url, prefix, shards, lock_prefix, options: of the worker's `Store`.
        timeout: seconds that one shard may take to answer. One that does not must not keep the others waiting.
    """

    def __init__(
        self,
        worker: str,
        url: str,
        prefix: str,
        shards: int,
        lock_prefix: str | None,
        options: Mapping[str, Any] | None,
        timeout: float,
    ) -> None:
        self._worker = worker
        self._timeout = timeout
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._make = lambda: Store(url, prefix, shards=shards, lock_prefix=lock_prefix, options=options)
        self._store: Store | None = None

    def vouch(self, seconds: float, blocker: str) -> None:
        """Vouch for the worker on all shards; 0 seconds = take it back.

        Raises:
            StoreError: a shard did not answer; the others have it.
        """
        self._runner.run(self._vouch(round(seconds * 1000), blocker))

    async def _vouch(self, for_ms: int, blocker: str) -> None:
        if self._store is None:
            self._store = self._make()
        told = await asyncio.gather(
            *(self._ask(shard, for_ms, blocker) for shard in self._store.shards), return_exceptions=True
        )
        for outcome in told:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ask(self, shard: Any, for_ms: int, blocker: str) -> None:
        async with asyncio.timeout(self._timeout):
            await shard.vouch(self._worker, for_ms, blocker, resend=Resend(self._timeout))

    def close(self) -> None:
        """Close the connections."""
        if self._store is not None:
            self._runner.run(self._store.close())
            self._store = None
        self._runner.close()
