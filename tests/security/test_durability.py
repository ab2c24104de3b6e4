"""`durability=`: a job that is acknowledged survives what it was promised to survive, or the caller is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from redsched import BackgroundTaskScheduler, DurabilityError, InvalidInputError, JobSpec
from redsched.testing.proxy import FaultProxy
from tests.servers import LocalServer, ValkeyServer, wait_until


async def note(value: Any = None) -> Any:
    return value


@contextlib.asynccontextmanager
async def client(url: str, **settings: Any) -> AsyncIterator[BackgroundTaskScheduler]:
    scheduler = BackgroundTaskScheduler(url, "durable", declared_tasks=False, **settings)
    try:
        yield scheduler
    finally:
        await scheduler.shutdown(wait=False)


@pytest.fixture(params=[LocalServer, ValkeyServer], ids=["redis", "valkey"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[LocalServer, LocalServer]]:
    """A primary and its replica."""
    with request.param("--repl-diskless-sync-delay", "0") as primary, request.param() as replica:
        with replica.client() as admin:
            admin.replicaof("127.0.0.1", str(primary.port))

            def linked() -> bool:
                return admin.info("replication")["master_link_status"] == "up"

            wait_until(linked, 20, "the replica follows")
        with primary.client() as admin:
            admin.set("a write", "that the replica has")
            wait_until(lambda: admin.wait(1, 1000) == 1, 20, "the primary knows")
        yield primary, replica


async def test_a_replicated_job_is_on_the_replica_when_the_call_returns(
    pair: tuple[LocalServer, LocalServer],
) -> None:
    primary, replica = pair
    async with client(primary.url) as scheduler, client(replica.url) as other:
        for number in range(20):
            job = await scheduler.schedule_delayed_task(
                "job", note, delay_minutes=5, job_id=f"job-{number}", durability="replicated"
            )
            assert await other.get_job(job.id) is not None
        specs = [JobSpec("many", note, delay=300, durability="replicated") for _ in range(1500)]
        made = await scheduler.schedule_many([*specs, JobSpec("plain", note, delay=300)])
        primary.kill()
        with replica.client() as admin:
            admin.replicaof("NO", "ONE")
        assert {job.id for job in await other.get_jobs()} >= {job.id for job in made[:1500]}


async def test_a_replica_that_is_not_there_is_told_before_anything_is_stored(
    pair: tuple[LocalServer, LocalServer],
) -> None:
    primary, replica = pair
    async with client(primary.url, durability_replicas=2) as scheduler:
        with pytest.raises(DurabilityError, match=r"needs 2 replicas, and 1 follow .* nothing was stored") as caught:
            await scheduler.schedule_immediate_task("job", note, durability="replicated")
        assert caught.value.stored is False
    async with client(primary.url) as scheduler:
        replica.kill()
        with primary.client() as admin:
            wait_until(lambda: admin.info("replication")["connected_slaves"] == 0)
        with pytest.raises(DurabilityError, match="needs 1 replicas, and 0 follow"):
            await scheduler.schedule_immediate_task("job", note, durability="replicated")
        assert await scheduler.get_jobs() == []


async def test_a_replica_that_hangs_is_told_with_the_job_stored(pair: tuple[LocalServer, LocalServer]) -> None:
    primary, replica = pair
    async with client(primary.url, durability_timeout=0.3) as scheduler:
        replica.pause()
        with pytest.raises(DurabilityError, match=r"is stored and will run, but after 0.3 s 0 of 1 replicas") as caught:
            await scheduler.schedule_delayed_task("job", note, delay_minutes=5, job_id="job", durability="replicated")
        assert caught.value.stored is True
        assert await scheduler.get_job("job") is not None
    replica.resume()
    async with client(primary.url) as scheduler:
        await scheduler.schedule_delayed_task("job", note, delay_minutes=5, job_id="next", durability="replicated")


async def test_a_reply_that_is_lost_does_not_turn_into_a_promise(pair: tuple[LocalServer, LocalServer]) -> None:
    """The request is sent again on another connection, and WAIT speaks of what was written on its own."""
    primary, replica = pair
    async with FaultProxy("127.0.0.1", primary.port) as proxy:
        async with client(proxy.url, durability_timeout=0.3) as scheduler:
            await scheduler.schedule_delayed_task("job", note, delay_minutes=5, durability="replicated")
            replica.pause()
            proxy.cut_mid_reply(matching=b"EVALSHA")
            with pytest.raises(DurabilityError) as caught:
                await scheduler.schedule_delayed_task(
                    "job", note, delay_minutes=5, job_id="job", durability="replicated"
                )
            assert caught.value.stored
        replica.resume()
        async with client(proxy.url) as scheduler:
            proxy.cut_mid_reply(matching=b"WAIT")
            await scheduler.schedule_delayed_task("job", note, delay_minutes=5, job_id="again", durability="replicated")
            assert [job.id for job in await scheduler.get_jobs()].count("again") == 1


async def test_fsynced_jobs_are_on_the_disk_when_the_call_returns() -> None:
    with ValkeyServer("--appendfsync", "everysec", aof="everysec") as server:
        async with client(server.url) as scheduler:
            await scheduler.schedule_delayed_task("job", note, delay_minutes=5, job_id="plain")
            await scheduler.schedule_delayed_task("job", note, delay_minutes=5, job_id="safe", durability="fsynced")
            with server.client() as admin:
                persistence = admin.info("persistence")
            assert persistence["aof_enabled"] == 1
            asked = [command async for command in asked_of(server, scheduler)]
            assert "waitaof" in asked
        server.kill()
        server.start()
        async with client(server.url) as scheduler:
            assert await scheduler.get_job("safe") is not None


async def asked_of(server: LocalServer, scheduler: BackgroundTaskScheduler) -> AsyncIterator[str]:
    """Which commands the server counted."""
    with server.client() as admin:
        for name in admin.info("commandstats"):
            yield name.removeprefix("cmdstat_")


async def test_without_an_append_only_file_nothing_is_stored() -> None:
    with ValkeyServer() as server:
        async with client(server.url) as scheduler:
            with pytest.raises(DurabilityError, match=r"keeps none: set appendonly yes; nothing was stored"):
                await scheduler.schedule_immediate_task("job", note, durability="fsynced")
            assert await scheduler.get_jobs() == []


async def test_a_server_that_never_syncs_by_itself_is_told() -> None:
    with ValkeyServer("--appendonly", "yes", "--appendfsync", "no") as server:
        async with client(server.url) as scheduler:
            with pytest.raises(DurabilityError, match="appendfsync no"):
                await scheduler.schedule_immediate_task("job", note, durability="fsynced")


async def test_an_old_server_can_only_promise_it_with_appendfsync_always() -> None:
    with LocalServer(aof="everysec") as server:
        with server.client() as admin:
            if tuple(map(int, admin.info("server")["redis_version"].split(".")[:2])) >= (7, 2):
                pytest.skip("this redis-server has WAITAOF")
        async with client(server.url) as scheduler:
            with pytest.raises(DurabilityError, match=r"needs WAITAOF \(Redis 7.2, Valkey\) or appendfsync always"):
                await scheduler.schedule_immediate_task("job", note, durability="fsynced")
            assert await scheduler.get_jobs() == []
            with server.client() as admin:
                admin.config_set("appendfsync", "always")
            await scheduler.schedule_delayed_task("job", note, delay_minutes=5, job_id="safe", durability="fsynced")
        server.kill()
        server.start()
        async with client(server.url) as scheduler:
            assert await scheduler.get_job("safe") is not None


@pytest.mark.parametrize("level", ["safe", True, "", "FSYNCED"])
async def test_a_word_that_is_none_is_refused(level: Any, redsched_scheduler: BackgroundTaskScheduler) -> None:
    with pytest.raises(InvalidInputError, match="durability") as caught:
        await redsched_scheduler.schedule_immediate_task("job", note, durability=level)
    assert caught.value.field == "durability"


async def test_calls_at_the_same_time_leave_no_connection_behind(pair: tuple[LocalServer, LocalServer]) -> None:
    primary, _ = pair
    async with client(primary.url) as scheduler:
        await asyncio.gather(
            *(
                scheduler.schedule_delayed_task("job", note, delay_minutes=5, durability="replicated")
                for _ in range(100)
            )
        )
        assert (await scheduler.store()).link._loops.get().held == {}
        assert len(await scheduler.get_jobs()) == 100
