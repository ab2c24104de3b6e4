"""What `redsched doctor` says of a cluster."""

from __future__ import annotations

from redsched import BackgroundTaskScheduler
from redsched.doctor.finding import Finding
from redsched.testing import fresh_prefix
from redsched.testing.clusters import ClusterServers


async def finding(url: str) -> Finding:
    async with BackgroundTaskScheduler(url, fresh_prefix(), declared_tasks=False) as scheduler:
        (found,) = [one for one in await scheduler.examine_server() if one.check == "cluster"]
    return found


async def test_a_cluster_that_is_well_is_called_so_with_its_shards(cluster: ClusterServers) -> None:
    found = await finding(cluster.url)
    assert (found.level, found.message[:24]) == ("ok", "3 primaries, 16384 slots"), found
    assert "shards: " in found.message


async def test_a_primary_without_replica_is_named() -> None:
    with ClusterServers() as servers:
        found = await finding(servers.url)
        assert found.level == "warning"
        assert f"127.0.0.1:{servers.primaries[0].port}" in found.message


async def test_a_node_with_the_url_of_a_single_server_is_an_error(cluster: ClusterServers) -> None:
    scheduler = BackgroundTaskScheduler(f"redis://127.0.0.1:{cluster.primaries[0].port}", fresh_prefix())
    (found,) = [one for one in await scheduler.examine_server() if one.check == "cluster"]
    assert (found.level, "redis+cluster://" in found.advice) == ("error", True)
    await scheduler.shutdown()
