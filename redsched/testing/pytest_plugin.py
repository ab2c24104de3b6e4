"""pytest fixtures of the testing kit; loaded by pytest wherever redsched is installed.

redsched_url         the URL of a real server for this test run (`REDSCHED_TEST_URL`, or one started for it)
redsched_scheduler   a scheduler with a separate prefix, not started
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


def pytest_configure(config: pytest.Config) -> None:
    """With pytest-asyncio the kit is one of its fixtures: in its strict mode it takes no other."""
    if config.pluginmanager.hasplugin("asyncio"):
        from redsched.testing import pytest_asyncio_fixtures

        config.pluginmanager.register(pytest_asyncio_fixtures, "redsched-asyncio")


@pytest.fixture
async def redsched_anyio_kit(redsched_url: str) -> AsyncIterator[Kit]:
    """The kit of a test of anyio's plugin."""
    from redsched.testing.pytest_kit import make_kit

    async for made in make_kit(redsched_url):
        yield made


@pytest.fixture
def redsched_kit(request: pytest.FixtureRequest) -> Kit:
    """A scheduler that is not started, under a separate prefix, with time that the test moves."""
    of_anyio = "anyio_backend" in request.fixturenames or not request.config.pluginmanager.hasplugin("asyncio")
    return request.getfixturevalue("redsched_anyio_kit" if of_anyio else "redsched_asyncio_kit")


@pytest.fixture
def redsched_scheduler(redsched_kit: Kit) -> BackgroundTaskScheduler:
    """The kit's scheduler."""
    return redsched_kit.scheduler
