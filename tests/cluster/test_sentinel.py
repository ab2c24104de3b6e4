"""Sentinels say who the primary is; what was acknowledged by a replica outlives a failover."""

from __future__ import annotations

import asyncio

import pytest

from redsched import BackgroundTaskScheduler, JobSpec
from redsched.errors import InvalidConfigError, StoreUnavailableError
from redsched.store.connections import Connections
from redsched.store.store import Store
from redsched.testing import fresh_prefix
from redsched.testing.clusters import SentinelServers
from tests.faults.local import until

ran: list[int] = []


async def note(number: int) -> int:
    ran.append(number)
    return number


async def test_after_a_failover_workers_and_clients_go_on_at_the_new_primary() -> None:
    ran.clear()
    with SentinelServers() as servers:
        scheduler = BackgroundTaskScheduler(servers.url, fresh_prefix(), declared_tasks=False, lease=2, retry_for=30)
        scheduler.register(note)
        await scheduler.start()
        await (await scheduler.schedule_immediate_task("first", note, args=[-1])).result(timeout=10)
        ran.clear()
        await scheduler.schedule_many(
            [JobSpec("job", note, args=[n], delay=1 + n / 100, durability="replicated") for n in range(300)]
        )
        await until(lambda: len(ran) > 30)
        await asyncio.to_thread(servers.fail_over)
        await until(lambda: len(set(ran)) == 300, 40)
        late = await scheduler.schedule_immediate_task("late", note, args=[1000])
        assert (await late.result(timeout=20)).result == 1000
        # What was settled in the last instant may run again; nothing is lost.
        assert set(ran) == {*range(300), 1000}
        await scheduler.shutdown()


async def test_one_sentinel_of_three_is_enough() -> None:
    with SentinelServers() as servers:
        for sentinel in servers.sentinels[:2]:
            sentinel.kill()
        store = Store(servers.url, fresh_prefix())
        assert await store.link.command("PING") == b"PONG"
        await store.close()


async def test_connections_that_ask_at_once_forget_no_sentinel() -> None:
    with SentinelServers() as servers:
        servers.sentinels[0].kill()
        store = Store(servers.url, fresh_prefix())
        own = store.link._loops.get()  # type: ignore[attr-defined]
        known = set(own.sentinels.sentinels)
        for _ in range(5):
            answers = await asyncio.gather(*(store.link.command("PING") for _ in range(8)))
            assert answers == [b"PONG"] * 8
            assert set(own.sentinels.sentinels) == known
            await Connections.close(own)  # so that each connects again
        await store.close()


async def test_no_sentinel_means_unavailable_and_names_them() -> None:
    store = Store("redis+sentinel://user:secret@127.0.0.1:1,127.0.0.1:2/jobs", fresh_prefix())
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1,127\.0\.0\.1:2/jobs") as raised:
        await store.link.command("PING")
    assert "secret" not in str(raised.value)
    await store.close()


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://a:26379", "redis+sentinel://a/jobs/x", "redis+sentinel://a:y/jobs", "redis+sentinel:///jobs"],
)
def test_a_broken_url_is_refused_with_what_is_wrong(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="redis_url"):
        BackgroundTaskScheduler(url)


async def test_credentials_of_servers_and_of_sentinels_are_told_apart() -> None:
    store = Store("redis+sentinel://u:p%40w@a:1,b/jobs/3?sentinel_username=s&sentinel_password=t", fresh_prefix())
    given = store.link._pool.connection_kwargs  # type: ignore[attr-defined]
    assert (given["username"], given["password"], given["db"]) == ("u", "p@w", 3)
    sentinels = store.link._loops.get().sentinels.sentinels  # type: ignore[attr-defined]
    told = [one.connection_pool.connection_kwargs for one in sentinels]
    assert [(one["host"], one["port"], one["username"], one["password"]) for one in told] == [
        ("a", 1, "s", "t"),
        ("b", 26379, "s", "t"),
    ]
    assert "p%40w" not in store.link.where
