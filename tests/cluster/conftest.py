"""One cluster for the tests that break nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redsched.testing.clusters import ClusterServers


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterServers]:
    with ClusterServers(replicas=True) as servers:
        yield servers
