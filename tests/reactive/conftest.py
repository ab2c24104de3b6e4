"""Fixtures of the tests of events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from redsched.testing import Kit
from tests.reactive.orders import Orders


@pytest.fixture
async def orders(redsched_kit: Kit) -> AsyncIterator[Orders]:
    made = Orders(redsched_kit)
    yield made
    await made.command("DEL", made.name, f"{made.name}:dead")
