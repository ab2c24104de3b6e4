"""pytest fixtures of the testing kit; loaded by pytest wherever redsched is installed.

redsched_url         the URL of a real server for this test run (`REDSCHED_TEST_URL`, or one started for it)
redsched_scheduler   a scheduler with a prefix of its own, not started
redsched_kit         the same with the testing kit around it: time travel, run_due, wait_for
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler
    from redsched.testing import Kit

# Imports are inside the fixtures: a test run that uses none of them should not pay for redsched.


@pytest.fixture(scope="session")
def redsched_url() -> Iterator[str]:
    """The URL of a real server, for the whole test run."""
    from redsched import testing

    with testing.server() as url:
        yield url


@pytest.fixture
async def redsched_kit(redsched_url: str) -> AsyncIterator[Kit]:
    """A scheduler that is not started, under a prefix of its own, with time that the test moves."""
    from redsched import BackgroundTaskScheduler, testing

    scheduler = BackgroundTaskScheduler(redsched_url, testing.fresh_prefix(), declared_tasks=False, lease=5.0)
    async with testing.kit(scheduler) as made:
        yield made


@pytest.fixture
def redsched_scheduler(redsched_kit: Kit) -> BackgroundTaskScheduler:
    """The kit's scheduler."""
    return redsched_kit.scheduler
