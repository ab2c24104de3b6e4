"""Promise 8: Redis is killed, full, read-only or locked: workers go on, and callers get one clear exception."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    JobSpec,
    StoreAccessError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from redsched.testing import fresh_prefix
from tests.faults.local import until
from tests.invariants import check
from tests.servers import LocalServer

ran: list[Any] = []


async def effect(value: Any) -> None:
    ran.append(value)


async def client_of(server: LocalServer, **settings: Any) -> BackgroundTaskScheduler:
    ran.clear()
    scheduler = BackgroundTaskScheduler(server.url, fresh_prefix(), declared_tasks=False, **settings)
    scheduler.register(effect)
    return scheduler


async def test_what_was_acknowledged_is_there_after_a_restart_with_aof_everysec() -> None:
    with LocalServer(aof="everysec") as server:
        scheduler = await client_of(server, retry_for=20)
        await scheduler.start()
        await scheduler.schedule_many([JobSpec("later", effect, delay=0.8, args=[number]) for number in range(200)])
        tick = await scheduler.schedule_interval("tick", effect, 0.2, args=["tick"])
        await asyncio.to_thread(server.restart)
        await until(lambda: set(range(200)) <= set(ran) and ran.count("tick") >= 3)
        assert sorted(value for value in ran if value != "tick") == list(range(200))
        await tick.cancel()
        async with asyncio.timeout(5):
            while await scheduler.get_jobs():
                await asyncio.sleep(0.02)
        await check(await scheduler.store())
        await scheduler.shutdown()


async def test_a_worker_goes_on_by_itself_after_every_kind_of_trouble() -> None:
    with LocalServer(aof="always") as server:
        scheduler = await client_of(server, retry_for=20)
        await scheduler.start()
        admin = server.client()

        async def still_works(value: str) -> None:
            handle = await scheduler.schedule_immediate_task(value, effect, args=[value])
            assert (await handle.result(timeout=10)).success

        await still_works("at first")
        admin.script_flush()
        await still_works("without scripts")
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await still_works("without connections")
        admin.replicaof("127.0.0.1", "1")
        await asyncio.sleep(0.3)
        admin.replicaof("NO", "ONE")
        await still_works("after a time as a replica")
        admin.config_set("maxmemory", "1")
        await asyncio.sleep(0.3)
        admin.config_set("maxmemory", "0")
        await still_works("after a time without memory")
        admin.close()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await still_works("after a kill")
        assert len(ran) == len(set(ran)) == 6
        await check(await scheduler.store())
        await scheduler.shutdown()


async def test_each_kind_of_trouble_has_its_exception_and_nothing_is_stored() -> None:
    with LocalServer("--maxmemory-policy", "noeviction") as server:
        scheduler = await client_of(server, retry_for=0.3)
        await scheduler.start(worker=False)
        admin = server.client()

        async def refused(kind: type[Exception], message: str) -> None:
            with pytest.raises(kind, match=message):
                await scheduler.schedule_immediate_task("effect", effect, args=[1])

        admin.config_set("maxmemory", "1")
        await refused(StoreFullError, "stored nothing")
        admin.config_set("maxmemory", "0")
        admin.replicaof("127.0.0.1", "1")
        await refused(StoreReadOnlyError, "no writes")
        admin.replicaof("NO", "ONE")
        admin.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        await refused(StoreAccessError, "refused the user")
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
        assert await scheduler.get_jobs() == []
        await check(await scheduler.store())
        admin.config_set("requirepass", "secret")
        await (await scheduler.store()).close()
        await refused(StoreAccessError, "refused the user")
        admin.close()
        await asyncio.to_thread(server.kill)
        await refused(StoreUnavailableError, "127.0.0.1")
        await scheduler.shutdown()
