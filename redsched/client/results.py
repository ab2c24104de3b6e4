"""Waiting for runs to end: one reader for a process and shard, which the scripts that end the runs notify.

A wait costs one call together with the others that begin at that moment, and a message when the run has ended. What
other runs do is not read. A message may be lost with a connection, or with Redis: what is waited for is asked again
from time to time, so that it makes an answer late, not missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redsched.client.outcomes import Ended
from redsched.errors import JobLookupError, SchedulerStateError, StoreAccessError, StoreError
from redsched.jobs.ids import new_id
from redsched.runtime.loops import LoopBound
from redsched.store.store import Store
from redsched.store.transitions import Shard

__all__ = ["ResultWaiter", "UnknownRunError", "UnreadableOutcomesError"]

log = logging.getLogger("redsched.results")

BATCH = 500
ASK_AGAIN_S = 5.0
LINGER_S = 5.0
"""How long the reader stays without waits: closing a blocked connection costs more than keeping it for a while."""


@dataclass(slots=True)
class _Wait:
    """The waits for one id."""

    futures: list[asyncio.Future[Ended]] = field(default_factory=list[asyncio.Future[Ended]])
    since_ms: int = 0
    """By Redis' clock, when it was first asked for; 0 before."""


class ResultWaiter(LoopBound):
    """The waits of one event loop, on all shards."""

    def __init__(self, store: Store) -> None:
        self._shards = {shard.keys.shard: _ShardWaiter(shard) for shard in store.shards}
        self._store = store

    async def wait(self, run_id: str) -> Ended:
        """How a job's next run ends, or a run; how it ended, if it has.

        Raises:
            JobLookupError: there is neither, and how it ended is not known any more.
            SchedulerStateError: the scheduler was shut down meanwhile.
            StoreError: Redis cannot be asked.
        """
        return await self._shards[self._store.shard(run_id).keys.shard].wait(run_id)

    async def close(self) -> None:
        """Give every wait up."""
        for shard in self._shards.values():
            await shard.close()

    def abandon(self) -> None:
        """Forget the waits, whose loop is closed."""
        self._shards.clear()

    def forsake(self) -> None:
        """Forget the waits in a forked child: they belong to the parent."""
        self._shards = {}


class _ShardWaiter:
    """The waits of a process on one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._client = new_id()
        self._waits: dict[str, _Wait] = {}
        self._to_ask: list[str] = []
        self._asking: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._may_listen = True

    async def wait(self, run_id: str) -> Ended:
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        wait = self._waits.setdefault(run_id, _Wait())
        wait.futures.append(future)
        self._to_ask.append(run_id)
        if not _is_at_work(self._asking):
            self._asking = asyncio.create_task(self._ask(), name="redsched ask for results")
        try:
            return await future
        finally:
            wait.futures.remove(future)
            if not wait.futures and self._waits.get(run_id) is wait:
                del self._waits[run_id]

    async def close(self) -> None:
        for wait in list(self._waits.values()):
            _raise(wait, SchedulerStateError("the scheduler was shut down; nothing waits for results any more"))
        for task in (self._asking, self._reader):
            if task is not None and _is_at_work(task):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._asking = self._reader = None

    # -- asking -------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Ask for what was not asked for yet, all that begin at this moment at once."""
        await asyncio.sleep(0)
        while self._to_ask:
            ids = list(dict.fromkeys(self._to_ask[:BATCH]))
            del self._to_ask[:BATCH]
            try:
                await self._ask_for(ids)
            except Exception as error:
                for run_id in ids:
                    _raise(self._waits.get(run_id), error)

    async def _ask_for(self, ids: list[str]) -> None:
        answers, now_ms, from_ms = await self._shard.outcome(ids, self._client)
        is_open = False
        missed: dict[str, Ended] = {}
        for run_id, answer in zip(ids, answers, strict=True):
            wait = self._waits.get(run_id)
            if wait is None:
                continue
            ended = Ended.of(run_id, answer)
            if answer[0] == b"open" and from_ms < 0:
                _raise(wait, UnreadableOutcomesError(now_ms))
            elif answer[0] == b"open":
                is_open = True
                if ended is not None and wait.since_ms and ended.when_ms >= wait.since_ms:
                    missed[run_id] = ended  # it ended since, and the message was lost
                wait.since_ms = wait.since_ms or now_ms
            elif ended is not None:
                _resolve(wait, ended)
            else:
                _raise(wait, UnknownRunError(run_id, now_ms, from_ms))
        await self._with_results(missed)
        if is_open and not _is_at_work(self._reader):
            self._reader = asyncio.create_task(self._read(), name="redsched read results")

    # -- notifications ------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Take the messages while anybody waits, and ask again from time to time."""
        loop = asyncio.get_running_loop()
        ask_at, leave_at = loop.time() + ASK_AGAIN_S, loop.time() + LINGER_S
        while self._waits or loop.time() < leave_at:
            if self._waits:
                leave_at = loop.time() + LINGER_S
            try:
                await self._take(min(ASK_AGAIN_S, max(0.1, ask_at - loop.time())))
                if loop.time() >= ask_at:
                    await self._ask_again()
                    ask_at = loop.time() + (ASK_AGAIN_S if self._may_listen else 0.5)
            except StoreError as error:
                log.warning("cannot ask how runs end: %s; trying again", error)
                await asyncio.sleep(0.5)
                ask_at = loop.time()  # messages may have been lost with the connection
            except Exception:  # who waits must not wait for ever, whatever was written there
                log.exception("a notification of ended runs cannot be read; trying again")
                await asyncio.sleep(0.5)
                ask_at = loop.time()

    async def _take(self, seconds: float) -> None:
        if not self._may_listen:
            await asyncio.sleep(min(seconds, 0.5))
            return
        key, hold = self._shard.keys.answers(self._client), f"results of shard {self._shard.keys.shard}"
        try:
            first = await self._shard.link.command("BLPOP", key, f"{seconds:.2f}", hold=hold, timeout=seconds + 10)
            if first is None:
                return
            more = await self._shard.link.command("LPOP", key, 10 * BATCH, hold=hold) or []
        except StoreAccessError as error:
            self._may_listen = False
            log.warning("%s. It is asked twice a second how runs end: see docs/security.md", error)
            return
        await self._told([first[1], *more])

    async def _told(self, messages: list[bytes]) -> None:
        ended: dict[str, Ended] = {}
        for message in messages:
            job_id, run_id, packed = (*message.split(b"\n", 2), b"", b"")[:3]
            one = Ended.of(run_id.decode(errors="replace"), [b"ended", packed, None, None])
            for name in {job_id, run_id}:
                waited = name.decode(errors="replace")
                if waited in self._waits and one is not None:
                    ended[waited] = one
                elif waited in self._waits:
                    self._to_ask.append(waited)  # the job is over, without a further run
        if self._to_ask:
            await self._ask()
        await self._with_results(ended)

    async def _with_results(self, ended: Mapping[str, Ended]) -> None:
        done = list(dict.fromkeys(one.run_id for one in ended.values() if one.kind == "done"))
        results: dict[str, Any] = {}
        for start in range(0, len(done), BATCH):
            ids = done[start : start + BATCH]
            answers, *_ = await self._shard.outcome(ids)
            results.update((run_id, answer[2]) for run_id, answer in zip(ids, answers, strict=True))
        for waited, one in ended.items():
            wait = self._waits.get(waited)
            if wait is not None:
                one.result = results.get(one.run_id)
                _resolve(wait, one)

    async def _ask_again(self) -> None:
        ids = [run_id for run_id, wait in self._waits.items() if wait.since_ms]
        for start in range(0, len(ids), BATCH):
            await self._ask_for(ids[start : start + BATCH])


class UnreadableOutcomesError(Exception):
    """The run has not ended, and this user may not read its outcome: the events have it too."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self.now_ms = now_ms


class UnknownRunError(JobLookupError):
    """No job, and no outcome; whether the events may know of it is for others to say."""

    def __init__(self, run_id: str, now_ms: int, from_ms: int) -> None:
        super().__init__(run_id)
        self.run_id = run_id
        self.now_ms = now_ms
        self.from_ms = from_ms


def _is_at_work(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop()


def _resolve(wait: _Wait, ended: Ended) -> None:
    for future in wait.futures:
        if not future.done():
            future.get_loop().call_soon_threadsafe(_set, future, ended)


def _set(future: asyncio.Future[Ended], ended: Ended) -> None:
    if not future.done():
        future.set_result(ended)


def _raise(wait: _Wait | None, error: Exception) -> None:
    for future in wait.futures if wait is not None else ():
        if not future.done():
            future.set_exception(error)
