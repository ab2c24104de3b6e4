"""The proxy itself: each fault meets exactly what it was meant for, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from redsched.testing.proxy import FaultProxy, _Messages
from tests.faults.local import until
from tests.servers import LocalServer

Connect = Callable[..., Redis]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    socket = tmp_path_factory.mktemp("socket") / "redis.sock"
    with LocalServer("--unixsocket", str(socket)) as made:
        yield made


@pytest.fixture
async def direct(server: LocalServer) -> AsyncIterator[Redis]:
    """What the server knows, whatever the proxy does."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def proxy(server: LocalServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", server.port) as made:
        yield made


@pytest.fixture
async def connect(proxy: FaultProxy) -> AsyncIterator[Connect]:
    """Clients that send each command once."""
    async with contextlib.AsyncExitStack() as stack:

        def client(*, socket_timeout: float = 10.0, protocol: int = 2) -> Redis:
            made = Redis.from_url(
                proxy.url, retry=Retry(NoBackoff(), 0), socket_timeout=socket_timeout, protocol=protocol
            )
            stack.push_async_callback(made.aclose)
            return made

        yield client


@pytest.fixture
async def client(connect: Connect) -> Redis:
    made = connect()
    await made.ping()  # its greeting is over: what follows is the test's
    return made


async def test_without_a_fault_everything_passes(client: Redis) -> None:
    assert await client.set("key", "value")
    assert await client.get("key") == b"value"
    assert await client.get("nothing") is None
    assert await client.lrange("nothing", 0, -1) == []
    large = b"x" * 3_000_000
    await client.set("large", large)
    assert await client.get("large") == large


async def test_a_dropped_reply_leaves_the_command_done_once(proxy: FaultProxy, client: Redis, direct: Redis) -> None:
    proxy.drop_next_reply()
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.incr("n")
    assert await direct.get("n") == b"1"
    assert (proxy.dropped, proxy.pending) == (1, 0)
    assert await client.incr("n") == 2


async def test_a_dropped_request_is_never_seen_by_the_server(proxy: FaultProxy, client: Redis, direct: Redis) -> None:
    proxy.drop_next_request()
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.incr("n")
    assert await direct.get("n") is None
    assert (proxy.dropped, proxy.pending) == (1, 0)
    assert await client.incr("n") == 1


async def test_exactly_n_replies_are_dropped(proxy: FaultProxy, client: Redis) -> None:
    proxy.drop_next_reply(3, matching=b"INCR")  # a new connection's greeting is none
    outcomes: list[int] = []
    for _ in range(6):
        try:
            outcomes.append(await client.incr("exactly"))
        except redis.exceptions.ConnectionError:
            outcomes.append(0)
    assert outcomes == [0, 0, 0, 4, 5, 6]
    assert proxy.dropped == 3


async def test_a_reply_that_is_cut_in_the_middle_is_no_reply(proxy: FaultProxy, client: Redis, direct: Redis) -> None:
    for command in (client.incr("n"), client.get("n"), client.keys()):
        proxy.cut_mid_reply()
        with pytest.raises(redis.exceptions.ConnectionError):
            await command
        await client.ping()  # again connected
    assert await direct.get("n") == b"1"
    assert proxy.dropped == 3


async def test_some_bytes_of_a_reply_that_is_cut_arrive(proxy: FaultProxy, server: LocalServer) -> None:
    proxy.cut_mid_reply()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"*2\r\n$4\r\nECHO\r\n$10\r\n0123456789\r\n")
    got = await reader.read()
    assert b"$10\r\n0123456789\r\n".startswith(got)
    assert 0 < len(got) < 17
    writer.close()


async def test_a_fault_picks_its_request_by_what_is_in_it(proxy: FaultProxy, connect: Connect, direct: Redis) -> None:
    waits, calls = connect(socket_timeout=20), connect()
    proxy.drop_next_reply(matching=b"EVAL")
    popping = asyncio.create_task(waits.blpop(["wake"], 10))
    await until(lambda: proxy.accepted == 1)
    await calls.set("other", 1)
    with pytest.raises(redis.exceptions.ConnectionError):
        await calls.eval("return redis.call('incr', KEYS[1])", 1, "n")
    assert await direct.get("n") == b"1"
    await direct.rpush("wake", "up")
    assert await popping == (b"wake", b"up")
    assert proxy.dropped == 1


async def test_each_fault_waits_for_its_own_request(proxy: FaultProxy, client: Redis, direct: Redis) -> None:
    proxy.drop_next_request(matching=b"first")
    proxy.drop_next_reply(matching=b"second")
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.set("second", 1)
    assert proxy.pending == 1
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.set("first", 1)
    assert await direct.mget("first", "second") == [None, b"1"]


@pytest.mark.parametrize("fault", ["drop_next_reply", "cut_mid_reply"])
async def test_of_a_pipeline_only_the_replies_from_the_fault_on_are_lost(
    proxy: FaultProxy, direct: Redis, fault: str
) -> None:
    getattr(proxy, fault)(matching=b"second")
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    for key in (b"a first", b"second", b"third"):
        writer.write(b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(key), key))
    got = await reader.read()
    assert got.startswith(b":1\r\n")
    assert len(got) < 8
    assert await direct.mget("a first", "second", "third") == [b"1", b"1", b"1"]
    writer.close()


async def test_a_fault_whose_connection_ends_early_waits_for_the_next(
    proxy: FaultProxy, connect: Connect, direct: Redis
) -> None:
    proxy.drop_next_reply(matching=b"BLPOP")
    client = connect(socket_timeout=20)
    popping = asyncio.create_task(client.blpop(["nothing"], 10))
    async with asyncio.timeout(10):
        while not any(c["cmd"] == "blpop" for c in await direct.client_list()):
            await asyncio.sleep(0.01)
    assert proxy.pending == 1
    proxy.cut()
    with pytest.raises(redis.exceptions.ConnectionError):
        await popping
    await until(lambda: proxy.pending == 1)
    assert proxy.dropped == 0
    await direct.rpush("something", 1)
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.blpop(["something"], 10)
    assert (proxy.dropped, proxy.pending) == (1, 0)


async def test_pushed_messages_are_nobodys_reply(proxy: FaultProxy, connect: Connect, direct: Redis) -> None:
    client = connect(protocol=3)
    async with client.pubsub() as listener:
        await listener.subscribe("news")
        assert await listener.get_message(timeout=5) is not None  # the subscription
        await direct.publish("news", "one")
        message = await listener.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"one"


async def test_a_cut_closes_all_connections_and_new_ones_work(proxy: FaultProxy, connect: Connect) -> None:
    clients = [connect() for _ in range(3)]
    waiting = [asyncio.create_task(each.blpop([f"never-{n}"], 10)) for n, each in enumerate(clients)]
    await until(lambda: proxy.accepted == 3 and len(proxy._connections) == 3)
    proxy.cut()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, redis.exceptions.ConnectionError) for each in ended)
    assert await clients[0].ping()


async def test_a_proxy_that_refuses_lets_nobody_in(proxy: FaultProxy, connect: Connect) -> None:
    proxy.refusing = True
    client = connect()
    with pytest.raises(redis.exceptions.ConnectionError):
        await client.ping()
    proxy.refusing = False
    assert await client.ping()


async def test_a_stalled_proxy_keeps_silent_until_it_goes_on(proxy: FaultProxy, connect: Connect) -> None:
    impatient, patient = connect(socket_timeout=0.1), connect()
    await patient.ping()
    proxy.stall()
    waiting = asyncio.create_task(patient.incr("stalled"))
    with pytest.raises(redis.exceptions.TimeoutError):
        await impatient.ping()
    assert not waiting.done()
    proxy.stall(False)
    assert await waiting == 1


async def test_a_black_hole_ends_by_itself(proxy: FaultProxy, client: Redis) -> None:
    hole = asyncio.create_task(proxy.black_hole(0.2))
    await asyncio.sleep(0)
    before = time.monotonic()
    assert await client.ping()
    assert time.monotonic() - before > 0.15
    await hole


async def test_latency_is_added_each_way(proxy: FaultProxy, client: Redis) -> None:
    proxy.latency = 0.05
    before = time.monotonic()
    assert await client.ping()
    assert 0.1 <= time.monotonic() - before < 1


async def test_dropped_replies_leave_the_connection_open(proxy: FaultProxy, connect: Connect, direct: Redis) -> None:
    client = connect(socket_timeout=0.2)
    await client.ping()
    proxy.drop_replies = True
    with pytest.raises(redis.exceptions.TimeoutError):
        await client.incr("n")
    assert await direct.get("n") == b"1"


async def test_a_unix_socket_can_be_the_target(server: LocalServer, direct: Redis) -> None:
    socket = (await direct.config_get("unixsocket"))["unixsocket"]
    async with FaultProxy(socket) as proxy, Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client:
        assert await client.incr("n") == 1
        proxy.drop_next_reply()
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.incr("n")
    assert await direct.get("n") == b"2"


async def test_a_server_that_is_not_there_is_a_cut_connection(tmp_path: Path) -> None:
    async with (
        FaultProxy(str(tmp_path / "nothing.sock")) as proxy,
        Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client,
    ):
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.ping()


async def test_the_end_of_the_server_is_the_end_of_the_connection(connect: Connect) -> None:
    with LocalServer() as own:
        async with (
            FaultProxy("127.0.0.1", own.port) as proxy,
            Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client,
        ):
            popping = asyncio.create_task(client.blpop(["never"], 10))
            await until(lambda: len(proxy._connections) == 1 and not popping.done())
            await asyncio.to_thread(own.kill)
            with pytest.raises(redis.exceptions.ConnectionError):
                await popping


async def test_a_closed_proxy_leaves_no_task(server: LocalServer) -> None:
    before = asyncio.all_tasks()
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.latency = 30
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"PING\r\n")
        await until(lambda: proxy.accepted == 1)
    assert asyncio.all_tasks() <= before
    writer.close()


MESSAGES = [
    b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n", b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$0\r\n\r\n",
    b"*2\r\n*2\r\n:1\r\n*0\r\n*1\r\n$3\r\nabc\r\n", b"%1\r\n+key\r\n*1\r\n:1\r\n", b"|1\r\n+a\r\n:1\r\n+OK\r\n",
    b">2\r\n+message\r\n$1\r\nx\r\n", b"~2\r\n:1\r\n:2\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"=7\r\ntxt:abc\r\n",
    b"-ERR no\r\n", b"PING\r\n",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_messages_are_told_apart_however_they_are_cut(size: int) -> None:
    stream, messages = b"".join(MESSAGES), _Messages()
    whole = [m for at in range(0, len(stream), size) for m in messages.feed(stream[at : at + size])]
    assert whole == MESSAGES
