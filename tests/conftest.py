"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Generator

import pytest
from hypothesis import HealthCheck, settings

from redsched.store.store import Store
from tests.invariants import check

# A change is judged by the same examples wherever it is tested; `--hypothesis-profile random` looks for new ones.
# How long an example takes to make says something of the machine alone.
settings.register_profile("same", derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", derandomize=False, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """All that importing the tests made stays: garbage collection need not walk through it in each test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test says goes from its process to the first as UTF-8; some of ours log names that are not."""
    report = yield
    report.sections = [(name, encodable(text)) for name, text in report.sections]
    said = str(report.longrepr)
    if encodable(said) != said:
        report.longrepr = encodable(said)
    return report


def encodable(text: str) -> str:
    """With escapes in place of what UTF-8 cannot hold."""
    return text.encode(errors="backslashreplace").decode()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A name with an address differs in each process, and tests are given to processes by name."""
    changing = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if changing:
        raise pytest.UsageError(f"give these tests names that do not change (ids=): {changing}")


@pytest.fixture
def check_invariants() -> Callable[[Store], Awaitable[None]]:
    """`await check_invariants(store)` once all is quiet: see tests/invariants.py."""
    return check
