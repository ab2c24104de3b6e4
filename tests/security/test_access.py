"""The ACL recipe of docs/security.md, as it stands there: each user can do its work, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis

from redsched import BackgroundTaskScheduler, InvalidConfigError, State, StoreAccessError, current_run
from redsched.store.rows import PollRequest
from redsched.store.wire import Resend
from tests.servers import ROOT, LocalServer, ValkeyServer

PAGE = (ROOT / "docs" / "security.md").read_text()
USERS = re.search(r"^```acl\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PASSWORDS = {
    "shop-worker": "WORKER-PASSWORD",
    "shop-producer": "PRODUCER-PASSWORD",
    "shop-observer": "OBSERVER-PASSWORD",
}
REFUSED = r"(?i)permission|ACL failure|NOPERM|user executing the script"
Make = Callable[..., BackgroundTaskScheduler]


async def note(value: Any = None) -> Any:
    await current_run().report_progress("begun")
    return value


begun: list[bool] = []


async def waits() -> None:
    begun.append(True)
    await asyncio.sleep(60)


async def fails() -> None:
    raise ValueError("of no use")


@pytest.fixture(scope="module", params=[LocalServer, ValkeyServer], ids=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A server with exactly the users of the recipe, and one to look behind them."""
    assert USERS, "docs/security.md has no recipe"
    with request.param(aof="always") as made:
        with made.client() as admin:
            admin.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "+@all", "~*", "&*")
            for line in reversed(USERS[1].splitlines()):
                newer = ["+client|setinfo", "+waitaof"] if request.param is ValkeyServer and " on " in line else []
                admin.execute_command("ACL", "SETUSER", *line.split()[1:], *newer)
        yield made


@pytest.fixture
def admin(server: LocalServer) -> Iterator[redis.Redis]:
    with redis.Redis("127.0.0.1", server.port, username="admin", password="admin") as client:
        client.flushall()
        yield client


@pytest.fixture
async def make(server: LocalServer, admin: redis.Redis) -> AsyncIterator[Make]:
    made: list[BackgroundTaskScheduler] = []

    def scheduler(user: str, prefix: str = "shop", **settings: Any) -> BackgroundTaskScheduler:
        url = f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{server.port}"
        made.append(BackgroundTaskScheduler(url, prefix, declared_tasks=False, retry_for=0.5, **settings))
        made[-1].register(note)
        return made[-1]

    yield scheduler
    for each in made:
        await each.shutdown(wait=False)


def refusals(admin: redis.Redis) -> list[str]:
    """What the server refused since it was asked last."""
    log = [f"{entry['reason']} {entry['object']} of {entry['username']}" for entry in admin.acl_log()]
    admin.acl_log_reset()
    return log


def contents(admin: redis.Redis) -> dict[bytes, Any]:
    """All that is stored. (A DUMP of a hash has no fixed order.)"""
    read = {b"hash": admin.hgetall, b"stream": admin.xrange, b"list": lambda key: admin.lrange(key, 0, -1)}
    read |= {b"zset": lambda key: admin.zrange(key, 0, -1, withscores=True), b"set": admin.smembers}
    return {key: read[admin.type(key)](key) for key in admin.keys("*")}


async def use_all(scheduler: BackgroundTaskScheduler) -> None:
    """Everything that a producer does."""
    one = await scheduler.schedule_immediate_task("one", note, args=["one"], tags=["t"])
    assert (await one.result(timeout=10)).result == "one"
    await scheduler.schedule_interval("often", note, seconds=3600, job_id="often", tags=["t", "u"], max_runs=50)
    await scheduler.schedule_cron("cron", note, "0 8 * * *", job_id="cron", replace_existing=True)
    await scheduler.schedule_cron("cron", note, "0 9 * * *", job_id="cron", replace_existing=True, max_instances=2)
    await scheduler.schedule_delayed_task("later", note, delay_minutes=5, job_id="later")
    await scheduler.run_now("often")
    await scheduler.run_now("later")
    await scheduler.modify_job("often", args=["changed"], queue="default", tags=["v"])
    await scheduler.pause_job("often")
    await scheduler.resume_job("often")
    await scheduler.reschedule_job("often", interval=60)
    bad = await scheduler.schedule_immediate_task("bad", fails, retry=None)
    assert (await bad.result(timeout=10)).outcome == "dead"
    assert [job.id for job in await scheduler.get_dead()] == [bad.id]
    assert await scheduler.requeue(bad.id) == [bad.id]
    await look(scheduler)
    await scheduler.remove_job("cron")
    await scheduler.cancel("often")
    await scheduler.cancel(tag="t")


async def look(scheduler: BackgroundTaskScheduler) -> None:
    """Everything that an observer does."""
    await scheduler.now()
    assert await scheduler.get_jobs()
    assert await scheduler.get_jobs(tag="v", state=State.SCHEDULED)
    assert await scheduler.get_job("often") is not None
    assert await scheduler.get_workers()
    assert await scheduler.get_history()
    await scheduler.get_dead()


async def test_each_user_can_do_its_work(make: Make, admin: redis.Redis) -> None:
    worker, producer, observer = make("shop-worker", lease=2), make("shop-producer"), make("shop-observer")
    worker.register(fails)
    await worker.start()
    await use_all(producer)
    seen: list[str] = []
    observer.add_listener(lambda event: seen.append(event.kind))
    await observer._listeners.ensure()
    await producer.schedule_interval("often", note, seconds=3600, job_id="often", tags=["v"])
    await asyncio.sleep(1.0)  # leases are renewed, heartbeats told
    await look(observer)
    await producer.cancel("often")
    assert "scheduled" in seen
    findings = {each.check: each.level for each in await observer.examine_server()}
    assert findings["keys"] == "ok"
    await worker.shutdown()
    # What the doctor tries, and an observer may not: it reads without scripts once it was refused one.
    unexpected = [
        line
        for line in refusals(admin)
        if not any(part in line for part in ("acl|whoami", "config|get", "client|setinfo", "evalsha of shop-observer"))
    ]
    assert unexpected == []


@pytest.mark.parametrize("user", PASSWORDS)
async def test_no_user_can_do_more(user: str, make: Make, admin: redis.Redis, server: LocalServer) -> None:
    admin.set("another application's", "secret")
    admin.set("{shop:0}:job:x", "theirs")
    with redis.Redis("127.0.0.1", server.port, username=user, password=PASSWORDS[user]) as client:
        for command in (
            ("HSET", "{shop:eu:0}:job:x", "a", "b"), ("HGETALL", "{shop:eu:0}:job:x"), ("EXISTS", "{shop-2:0}:clock"),
            ("GET", "another application's"), ("SET", "another application's", "x"), ("FLUSHALL",), ("KEYS", "*"),
            ("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "1"), ("ACL", "LIST"),
            ("SHUTDOWN",), ("REPLICAOF", "NO", "ONE"), ("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal"),
            ("MIGRATE", "127.0.0.1", "1", "{shop:0}:job:x", "0", "1"), ("SUBSCRIBE", "x"), ("MONITOR",),
            ("EVAL", "return redis.call('FLUSHALL')", "0"), ("EVAL", "return redis.call('GET', 'another')", "0"),
        ):  # fmt: skip
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.execute_command(*command)
    stranger = make(user, prefix="bank")
    with pytest.raises(StoreAccessError):
        await stranger.schedule_immediate_task("job", note)


OLDER_RIGHTS = [
    "resetchannels", "~{shop:[0-9]*}:clock", "~{shop:[0-9]*}:events", "~{shop:[0-9]*}:dead",
    "~{shop:[0-9]*}:workers", "~{shop:[0-9]*}:*leases", "~{shop:[0-9]*}:due:*", "~{shop:[0-9]*}:parked:*",
    "~{shop:[0-9]*}:job:*", "~{shop:[0-9]*}:run:*", "~{shop:[0-9]*}:live:*", "~{shop:[0-9]*}:waiting:*",
    "~{shop:[0-9]*}:tag:*", "~{shop:[0-9]*}:applications", "~{shop:[0-9]*}:declared:*",
    "~{shop:[0-9]*}:declarers:*", "~{shop:[0-9]*}:generations:*", "~{shop:[0-9]*}:idle:*", "~{shop:[0-9]*}:wake:*",
    "~{shop:[0-9]*}:mail:*", "~{shop:[0-9]*}:requests:*", "%R~{shop:[0-9]*}:result:*", "%R~{shop:[0-9]*}:worker:*",
    "-@all", "+ping", "+select", "+client|setname", "+info", "+time", "+evalsha", "+eval", "+exists", "+del",
    "+pexpire", "+get", "+getrange", "+hget", "+hmget", "+hgetall", "+hset", "+hsetnx", "+hdel", "+hexists",
    "+hincrby", "+sadd", "+srem", "+smembers", "+scard", "+sismember", "+srandmember", "+sscan", "+zadd", "+zrem",
    "+zrange", "+zscore", "+zcard", "+zcount", "+llen", "+rpush", "+xadd", "+xread", "+xrevrange", "+scan", "+wait",
    "+command|info",
]  # fmt: skip
"""Of the recipe of producers before outcomes were found by id, and before its writes had a selector."""


async def test_a_producer_of_the_older_recipe_waits_all_the_same(make: Make, admin: redis.Redis) -> None:
    assert USERS
    [rights] = [line.split() for line in USERS[1].splitlines() if line.startswith("user shop-producer")]
    newer = ["+client|setinfo", "+waitaof"] if "valkey_version" in admin.info("server") else []
    older = ["on", ">PRODUCER-PASSWORD", *OLDER_RIGHTS, *newer]
    admin.execute_command("ACL", "SETUSER", "shop-producer", "reset", *older)
    try:
        worker, producer = make("shop-worker"), make("shop-producer")
        await worker.start()
        handle = await producer.schedule_delayed_task("one", note, 0.5, args=["one"])
        each = await producer.schedule_interval("each", note, seconds=1, args=["each"])
        waits = [asyncio.create_task(one.result(timeout=10)) for one in (handle, each)]
        assert [found.result for found in await asyncio.gather(*waits)] == ["one", "each"]
        assert (await handle.result(timeout=5)).result == "one", "also when it has ended"
        assert (await each.cancel()) is True
        later = await producer.schedule_delayed_task("later", note, 60)
        wait = asyncio.create_task(later.result(timeout=10))
        await asyncio.sleep(0.1)
        assert await later.cancel()
        assert (await wait).outcome == "cancelled"
    finally:
        admin.execute_command("ACL", "SETUSER", rights[1], "reset", *rights[2:], *newer)


@pytest.mark.parametrize("prefix", ["shop:0", "shop:1:eu", "shop:0eu", "a:9"])
def test_a_prefix_whose_keys_would_be_those_of_another_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidConfigError, match="must not be followed by a digit"):
        BackgroundTaskScheduler("redis://localhost", prefix)


def test_a_prefix_may_have_colons_and_digits() -> None:
    for prefix in ("shop:eu", "shop2", "2:shop", "shop:eu2:v-3"):
        BackgroundTaskScheduler("redis://localhost", prefix)


async def test_an_observer_writes_nothing(make: Make, admin: redis.Redis) -> None:
    observer, producer = make("shop-observer"), make("shop-producer")
    await producer.schedule_interval("often", note, seconds=3600, job_id="often", tags=["v"])
    before = contents(admin)
    for change in (
        observer.schedule_immediate_task("job", note),
        observer.cancel("often"),
        observer.pause_job("often"),
        observer.modify_job("often", args=["forged"]),
        observer.run_now("often"),
        observer.clear_all_jobs(),
        observer.requeue("often"),
    ):
        with pytest.raises(StoreAccessError):
            await change
    assert contents(admin) == before


async def test_an_observer_sees_without_scripts_what_others_see_with_them(make: Make, admin: redis.Redis) -> None:
    observer, producer, worker = make("shop-observer"), make("shop-producer"), make("shop-worker", lease=5)
    worker.register(fails)
    begun.clear()
    for each in (producer, worker):
        each.register(waits)
    await producer.schedule_cron("cron", note, "0 8 * * *", job_id="cron", tags=["t"])
    await producer.schedule_interval("paused", note, seconds=60, job_id="paused", tags=["t"], queue="other")
    await producer.pause_job("paused")
    await producer.schedule_delayed_task("later", note, 3600, job_id="later")
    dead = await producer.schedule_immediate_task("dead", fails, retry=None, job_id="dead")
    await producer.schedule_immediate_task("runs", waits, job_id="runs")
    await producer.schedule_immediate_task("done", note, args=["value"], job_id="done")
    await worker.start()
    while not begun:
        await asyncio.sleep(0.01)
    await dead.result(timeout=10)
    while await producer.get_job("done") is not None:
        await asyncio.sleep(0.01)
    for filters in ({}, {"tag": "t"}, {"queue": "other"}, {"limit": 2}, *({"state": state} for state in State)):
        seen, there = await observer.get_jobs(**filters), await producer.get_jobs(**filters)  # type: ignore[arg-type]
        assert list(seen) == list(there), filters
        assert there or filters.get("state") == State.DEAD or "limit" in filters, filters
    assert await observer.get_dead() == await producer.get_dead() != []
    assert await observer.get_job("runs") == await producer.get_job("runs")
    assert abs((await observer.now() - await producer.now()).total_seconds()) < 2
    for job_id in ("done", "dead"):
        ended, other = await observer.get_result(job_id), await producer.get_result(job_id)
        assert ended is not None
        assert other is not None
        assert (ended.outcome, ended.result) == (other.outcome, other.result)
    assert await observer.get_result("runs") is None
    assert await producer.cancel("runs")


async def test_an_observer_calls_no_script_and_no_function(server: LocalServer, admin: redis.Redis) -> None:
    admin.function_load("#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 1 end}")
    loop = "while true do end"
    with redis.Redis("127.0.0.1", server.port, username="shop-observer", password="OBSERVER-PASSWORD") as client:
        for command in (
            ("EVAL", loop, 0), ("EVAL_RO", loop, 0), ("EVALSHA", "0" * 40, 0), ("EVALSHA_RO", "0" * 40, 0),
            ("FCALL", "f", 0), ("FCALL_RO", "f", 0), ("SCRIPT", "LOAD", loop), ("FUNCTION", "LIST"),
            ("HSET", "{shop:0}:job:x", "a", "b"), ("DEL", "{shop:0}:job:x"), ("XADD", "{shop:0}:events", "*", "a", "b"),
            ("BLPOP", "{shop:0}:mail:x", 1), ("ZADD", "{shop:0}:due:default", 1, "x"),
        ):  # fmt: skip
            with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
                client.execute_command(*command)
    admin.function_flush()


@pytest.mark.parametrize("kind", ["live:a", "waiting:a", "due:default"])
async def test_an_observer_sees_all_jobs_where_another_wrote_beside_one(
    kind: str, make: Make, admin: redis.Redis
) -> None:
    observer, producer = make("shop-observer"), make("shop-producer")
    for job_id in ("a", "b"):
        await producer.schedule_delayed_task(job_id, note, 3600, job_id=job_id)
    key = f"{{shop:0}}:{kind}"
    admin.delete(key)
    admin.set(key, "x")
    assert {job.id for job in await observer.get_jobs()} == {"a", "b"}
    assert {job.id for job in await observer.get_jobs(state=State.SCHEDULED)} == {"a", "b"}


@pytest.mark.parametrize("by_script", [False, True], ids=["by commands", "by scripts"])
async def test_a_producer_forges_no_result_and_no_worker(
    by_script: bool, server: LocalServer, admin: redis.Redis
) -> None:
    tag = "{shop:0}:"
    with redis.Redis("127.0.0.1", server.port, username="shop-producer", password="PRODUCER-PASSWORD") as client:
        for name, key, *rest in (
            ("HSET", "result:x", "a", "b"), ("SET", "result:x", "a"), ("DEL", "result:x"),
            ("HSET", "worker:x", "info", "b"), ("DEL", "worker:x"), ("PEXPIRE", "worker:x", 1),
            ("ZADD", "workers", 1, "x"), ("ZREM", "workers", "x"), ("DEL", "workers"),
            ("ZADD", "leases", 1, "x"), ("ZREM", "leases", "x"), ("DEL", "leases"), ("PEXPIRE", "leases", 1),
            ("ZADD", "lock:leases", 1, "x"), ("ZADD", "live:x", 1, "x@1"), ("ZREM", "live:x", "x@1"), ("DEL", "live:x"),
            ("ZADD", "parking", 1, "x"), ("HSET", "circuit:x", "open_until", 1), ("DEL", "quarantine:x"),
            ("RENAME", "job:x", "job:y"), ("APPEND", "index:1:1", "x"),
        ):  # fmt: skip
            script = "return redis.call(unpack(ARGV))"
            command = ("EVAL", script, 0, name, tag + key, *rest) if by_script else (name, tag + key, *rest)
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.execute_command(*command)
    assert admin.keys("*") == []


async def test_a_producer_cannot_work_as_a_worker(make: Make, admin: redis.Redis) -> None:
    producer, impostor = make("shop-producer"), make("shop-producer")
    await producer.schedule_immediate_task("one", note, args=["one"], job_id="one")
    shard = (await impostor.store()).shards[0]
    with pytest.raises(StoreAccessError):
        await shard.poll("impostor", b"\x91\xa7default", PollRequest(1, 1), resend=Resend(0.0))
    assert admin.exists("{shop:0}:leases", "{shop:0}:workers", "{shop:0}:worker:impostor") == 0


class Oven:
    async def bake(self) -> None: ...


async def test_what_a_producer_may_not_schedule_is_not_stored(make: Make, admin: redis.Redis) -> None:
    """A method of a second instance runs in its own process, which would be entered into the workers."""
    producer = make("shop-producer")
    producer.bind(Oven())
    with pytest.raises(StoreAccessError):
        await producer.schedule_immediate_task("bake", Oven().bake, job_id="bake")
    assert admin.keys("*job:*") == admin.keys("*due:*") == []


async def test_a_wrong_password_is_told_as_such_and_not_shown(server: LocalServer, admin: redis.Redis) -> None:
    scheduler = BackgroundTaskScheduler(
        f"redis://shop-worker:wrong-secret@127.0.0.1:{server.port}", "shop", retry_for=0.2
    )
    with pytest.raises(StoreAccessError) as caught:
        await scheduler.start()
    assert "wrong-secret" not in str(caught.value)
