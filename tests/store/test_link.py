"""What Redis answers becomes the one error of ours that says what it means for a caller."""

from __future__ import annotations

import asyncio
import gc

import pytest
import redis.exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from redsched.errors import (
    StoreAccessError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from redsched.store.failures import translate
from redsched.store.link import Link


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("NOREPLICAS Not enough good replicas to write.", StoreReadOnlyError),
        ("MISCONF Redis is configured to save RDB snapshots", StoreReadOnlyError),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", StoreUnavailableError),
        ("TRYAGAIN the slot of this shard is being moved", StoreUnavailableError),
        ("CLUSTERDOWN The cluster is down", StoreUnavailableError),
        ("BUSY Redis is busy running a script", StoreUnavailableError),
        ("OOM command not allowed when used memory > 'maxmemory'", StoreFullError),
        ("WRONGPASS invalid username-password pair", StoreAccessError),
        ("ERR something else", StoreError),
    ],
)
def test_an_answer_is_told_by_its_code(answer: str, kind: type[StoreError]) -> None:
    error = translate(redis_errors.ResponseError(answer), "here")
    assert type(error) is kind
    assert answer in str(error)


def left_open() -> list[AbstractConnection]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, AbstractConnection) and one.is_connected]


@pytest.mark.parametrize("hold", [None, "name"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 8, 12, 16])
async def test_a_command_that_is_under_way_when_its_link_closes_leaves_no_connection_open(
    redsched_url: str, turns: int, hold: str | None
) -> None:
    link = Link(redsched_url)
    commands = [asyncio.create_task(link.command("PING", hold=hold and f"{hold}{n}")) for n in range(4)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await link.close()
    await asyncio.gather(*commands, return_exceptions=True)
    if turns:  # otherwise the commands began after the close, and the link was in use again
        assert left_open() == []
    await link.close()
    assert left_open() == []


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 6, 8, 12, 16])
async def test_a_connection_that_was_given_up_while_it_was_made_is_not_used(redsched_url: str, turns: int) -> None:
    link = Link(redsched_url)
    command = asyncio.create_task(link.command("PING"))
    for _ in range(turns):
        await asyncio.sleep(0)
    command.cancel()
    await asyncio.gather(command, return_exceptions=True)
    assert command.cancelled() is False or left_open() == []
    assert await link.command("ECHO", "mine") == b"mine"
    await link.close()
    assert left_open() == []
