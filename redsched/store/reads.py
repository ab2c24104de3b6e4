"""Reads of a shard: by scripts, or by plain commands for a user who may call none (`plain_reads.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redsched.store import plain_reads
from redsched.store.calls import Calls, pack
from redsched.store.marks import mark_of

__all__ = ["Reads"]


class Reads(Calls):
    """The reads of one shard. Nothing here changes anything, but that `outcome` notes who waits."""

    async def _plain_now(self) -> list[Any]:
        now_us = await plain_reads.now_us(self.link, self.keys)
        self.clock.observe(now_us)
        return [b"OK", now_us]

    async def outcome(self, ids: Sequence[str], waiter: str = "") -> tuple[list[list[Any]], int, int]:
        """How runs ended, by ids of jobs or runs. For those that have not, `waiter` is notified when they do.

        Returns an answer of `lua/outcome.lua` for each id; the instant of Redis, and the one since when outcomes are
        kept (0 = none was yet, -1 = this user may not read them), in ms.
        """
        return await self._read(
            lambda: self._outcome(ids, waiter), lambda: plain_reads.outcome(self.link, self.keys, ids)
        )

    async def _outcome(self, ids: Sequence[str], waiter: str) -> tuple[list[list[Any]], int, int]:
        marked = [mark_of(run_id) for run_id in ids]
        # In the order of the index's parts, so that each is read once.
        order = sorted(range(len(ids)), key=lambda number: marked[number][0])
        answers: list[list[Any]] = [[]] * len(ids)
        while True:
            reply = await self._call(
                "outcome", ids=pack([ids[number] for number in order]), waiter=waiter,
                marks=pack([part for number in order for part in marked[number]]), record_max=self.limits.record_max,
            )  # fmt: skip
            for number, answer in zip(order, reply[3], strict=False):
                answers[number] = answer
            order = order[max(1, reply[4]) :]
            if not order:
                return answers, reply[1] // 1000, reply[2]

    async def inspect(
        self, ids: Sequence[str], *, queue: str = "", state: str = "", undue: bool = False
    ) -> list[list[Any]]:
        """Read jobs or runs. Rows: id, fields (flat), due or None, running, waiting.

        Args:
            queue, state: only jobs of this queue, in this state: the others are not read.
            undue: only jobs that have no instant at which they are due.
        """
        how: dict[str, Any] = {"queue": queue, "state": state, "undue": undue}
        return await self._read(
            lambda: self._inspect(ids, **how),
            lambda: plain_reads.inspect(self.link, self.keys, ids, longest=self.limits.record_max, **how),
        )

    async def _inspect(self, ids: Sequence[str], *, queue: str, state: str, undue: bool) -> list[list[Any]]:
        left, found = list(ids), []
        while left:
            reply = await self._call(
                "inspect",
                ids=pack(left),
                queue=queue,
                state=state,
                undue=int(undue),
                record_max=self.limits.record_max,
            )
            found += reply[2]
            left = left[max(1, reply[3]) :]
        return found
