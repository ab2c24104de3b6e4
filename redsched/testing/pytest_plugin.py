"""pytest fixtures of the testing kit; loaded by pytest wherever redsched is installed.

redsched_url         the URL of a real server for this test run (`REDSCHED_TEST_URL`, or one started for it)
redsched_scheduler   a scheduler with a separate prefix, not started
redsched_kit         the same with the testing kit around it: time travel, run_due, wait_for
redsched_server      a server for this test alone, which the test may kill, pause and start again
redsched_proxy       a proxy before redsched_server that loses requests and replies, delays, and cuts connections
redsched_cluster     a cluster for this test alone: three primaries, each with a replica
redsched_sentinel    a primary, its replica and three sentinels, for this test alone
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from redsched.scheduler import BackgroundTaskScheduler
    from redsched.testing import ClusterServers, FaultProxy, Kit, LocalServer, SentinelServers

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
def redsched_server() -> Iterator[LocalServer]:
    """A server for this test alone, with an AOF that is written at each command."""
    from redsched.testing import LocalServer

    with LocalServer(aof="always") as server:
        yield server


@pytest.fixture
def redsched_cluster() -> Iterator[ClusterServers]:
    """A cluster for this test alone: three primaries, each with a replica."""
    from redsched.testing import ClusterServers

    with ClusterServers(replicas=True) as cluster:
        yield cluster


@pytest.fixture
def redsched_sentinel() -> Iterator[SentinelServers]:
    """A primary, its replica and three sentinels, for this test alone."""
    from redsched.testing import SentinelServers

    with SentinelServers() as servers:
        yield servers


def of_plugin(request: pytest.FixtureRequest, name: str) -> Any:
    """The form of an async fixture for the plugin that runs the test: anyio's, or pytest-asyncio."""
    of_anyio = "anyio_backend" in request.fixturenames or not request.config.pluginmanager.hasplugin("asyncio")
    return request.getfixturevalue(f"redsched_{'anyio' if of_anyio else 'asyncio'}_{name}")


@pytest.fixture
async def redsched_anyio_proxy(redsched_server: LocalServer) -> AsyncIterator[FaultProxy]:
    """The proxy of a test of anyio's plugin."""
    from redsched.testing import FaultProxy

    async with FaultProxy.before(redsched_server.url) as proxy:
        yield proxy


@pytest.fixture
def redsched_proxy(request: pytest.FixtureRequest) -> FaultProxy:
    """A proxy before `redsched_server`, in the event loop of the test."""
    return of_plugin(request, "proxy")


@pytest.fixture
async def redsched_anyio_kit(redsched_url: str) -> AsyncIterator[Kit]:
    """The kit of a test of anyio's plugin."""
    from redsched.testing.pytest_kit import make_kit

    async for made in make_kit(redsched_url):
        yield made


@pytest.fixture
def redsched_kit(request: pytest.FixtureRequest) -> Kit:
    """A scheduler that is not started, under a separate prefix, with time that the test moves."""
    return of_plugin(request, "kit")


@pytest.fixture
def redsched_scheduler(redsched_kit: Kit) -> BackgroundTaskScheduler:
    """The kit's scheduler."""
    return redsched_kit.scheduler
