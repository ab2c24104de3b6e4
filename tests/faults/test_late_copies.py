"""What the network delivers long after it was answered (a partition heals) changes nothing any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from redsched.store.link import Link
from redsched.store.scripts import Script
from redsched.store.transitions import PollRequest
from redsched.store.wire import Resend
from redsched.testing import Kit
from tests.faults.local import effect, ran
from tests.invariants import check
from tests.store.raw import Raw


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Script, Sequence[Any]]]:
    """Every call of a script, as it was sent."""
    ran.clear()
    calls: list[tuple[Script, Sequence[Any]]] = []
    script = Link.script

    async def recording(self: Link, what: Script, arguments: Sequence[Any], **options: Any) -> Any:
        calls.append((what, arguments))
        return await script(self, what, arguments, **options)

    monkeypatch.setattr(Link, "script", recording)
    return calls


async def again(kit: Kit, call: tuple[Script, Sequence[Any]]) -> Any:
    link = (await kit.scheduler.store()).link
    script, arguments = call
    return await link.command("EVAL", script.source, len(script.keys), *arguments)


async def test_a_copy_of_a_confirmed_request_does_not_add_its_job_again(
    redsched_kit: Kit, sent: list[tuple[Script, Sequence[Any]]]
) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_immediate_task("effect", effect, args=[1])
    first = next(call for call in sent if call[0].name == "schedule")
    await redsched_kit.run_due()
    await scheduler.schedule_immediate_task("effect", effect, args=[2])  # confirms the first
    await again(redsched_kit, first)
    await redsched_kit.run_due()
    assert ran == [1, 2]
    await check(await scheduler.store())


async def test_a_copy_of_an_old_cancellation_does_not_end_a_new_job_of_that_id(
    redsched_kit: Kit, sent: list[tuple[Script, Sequence[Any]]]
) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_delayed_task("one", effect, delay_minutes=1, args=["old"], job_id="one")
    await scheduler.cancel("one")
    cancelled = next(call for call in sent if call[0].name == "cancel")
    await scheduler.schedule_delayed_task("one", effect, delay_minutes=1, args=["new"], job_id="one")
    await again(redsched_kit, cancelled)
    await redsched_kit.advance(minutes=1)
    assert ran == ["new"]


async def test_a_copy_of_an_old_poll_claims_nothing(redsched_kit: Kit) -> None:
    ran.clear()
    scheduler = redsched_kit.scheduler
    raw = Raw(await scheduler.store())
    queues, sent = msgpack.packb(["default"]), []
    for sequence in (1, 2):
        await raw.shard.poll("w", queues, PollRequest(sequence, 10), resend=Resend(1))
        sent.append(raw.sent)
    await scheduler.schedule_immediate_task("effect", effect, args=[1], delivery="at_most_once")
    _, _, _, claims, plans, *_ = await raw.shard.link.script(*sent[0])  # byte for byte, as the network would bring it
    assert (claims, plans) == ([], [])
    # It would have been claimed without a worker: dead after the lease, and never run.
    assert await redsched_kit.run_due() == 1
    assert ran == [1]
    await check(await scheduler.store())
