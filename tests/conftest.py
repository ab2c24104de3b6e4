"""What all tests share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from redsched.store.store import Store
from tests.invariants import check


@pytest.fixture
def check_invariants() -> Callable[[Store], Awaitable[None]]:
    """`await check_invariants(store)` once all is quiet: see tests/invariants.py."""
    return check
