"""A stream of orders, and consumers of it: in this process, and in others."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redsched import ReactiveTaskProcessor, RedisStream
from redsched.testing import Kit


class Orders:
    """A stream of orders on the server of a kit."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.name = f"orders:{kit.scheduler.prefix}"

    async def command(self, *command: Any) -> Any:
        return await (await self.kit.scheduler.store()).link.command(*command)

    async def add(self, **fields: str) -> str:
        return (await self.command("XADD", self.name, "*", *[x for pair in fields.items() for x in pair])).decode()

    async def pending(self) -> int:
        return (await self.command("XPENDING", self.name, "orders"))[0]

    async def acknowledged(self, number: int = 0) -> None:
        """Wait until at most that number of events is unacknowledged, and none is unread."""
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(Exception):
                    [group] = await self.command("XINFO", "GROUPS", self.name)
                    info = dict(zip(group[::2], group[1::2], strict=True))
                    if info[b"lag"] == 0 and info[b"pending"] <= number:
                        return
                await asyncio.sleep(0.01)

    def source(self, **settings: Any) -> RedisStream:
        return RedisStream(self.name, group="orders", **{"redeliver_after": 0.1, **settings})


async def subscribed(
    orders: Orders, handler: Callable[[Any], Awaitable[None]], **settings: Any
) -> ReactiveTaskProcessor:
    processor = ReactiveTaskProcessor(orders.kit.scheduler)
    processor.subscribe(orders.source(**settings), handler)
    return processor


async def consumer(orders: Orders, url: str, where: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.reactive.consumer_main", url, orders.kit.scheduler.prefix, orders.name, where,
        cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
