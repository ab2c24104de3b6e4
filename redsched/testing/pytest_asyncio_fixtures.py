"""The testing kit as a fixture of pytest-asyncio; registered where that plugin is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest_asyncio

from redsched.testing.pytest_kit import make_kit

if TYPE_CHECKING:
    from redsched.testing import FaultProxy, Kit, LocalServer


@pytest_asyncio.fixture
async def redsched_asyncio_kit(redsched_url: str) -> AsyncIterator[Kit]:
    """The kit of a test of pytest-asyncio."""
    async for made in make_kit(redsched_url):
        yield made


@pytest_asyncio.fixture
async def redsched_asyncio_proxy(redsched_server: LocalServer) -> AsyncIterator[FaultProxy]:
    """The proxy of a test of pytest-asyncio."""
    from redsched.testing import FaultProxy

    async with FaultProxy.before(redsched_server.url) as proxy:
        yield proxy
