"""What all tests share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import settings

from redsched.store.store import Store
from tests.invariants import check

# A change is judged by the same examples wherever it is tested; `--hypothesis-profile random` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile("same")


@pytest.fixture
def check_invariants() -> Callable[[Store], Awaitable[None]]:
    """`await check_invariants(store)` once all is quiet: see tests/invariants.py."""
    return check
