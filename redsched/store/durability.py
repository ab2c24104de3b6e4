"""Durability on request: not to say that a job is stored before a replica has it, or the disk.

Redis acknowledges a write before it has reached a replica, and, unless `appendfsync always` is set, the disk. WAIT
and WAITAOF wait for that. They speak of what was written on their own connection, so they follow the script on it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from redsched.errors import DurabilityError, StoreAccessError, StoreError
from redsched.jobs.options import DURABILITIES
from redsched.store.wire import Wire

__all__ = ["DurabilityLevel", "online_replicas", "server_facts"]

REPLICATED, FSYNCED = DURABILITIES


async def server_facts(link: Wire) -> dict[str, str]:
    """Read the fields of the server's INFO."""
    text = await link.command("INFO")
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, separator, value in lines if separator}


def online_replicas(facts: dict[str, str]) -> int:
    """How many replicas follow this server now."""
    count = int(facts.get("connected_slaves", 0))
    return sum("state=online" in facts.get(f"slave{number}", "") for number in range(count))


@dataclass(frozen=True, slots=True)
class DurabilityLevel:
    """The durability that a write must have before its call returns."""

    levels: Collection[str]
    replicas: int = 1
    timeout_ms: int = 5000

    async def check(self, link: Wire) -> None:
        """See what can be seen before anything is stored.

        Raises:
            DurabilityError: the server cannot keep the promise. Nothing was stored.
        """
        try:
            facts = await server_facts(link)
        except StoreAccessError:
            return  # not ours to see; the wait itself will tell
        if REPLICATED in self.levels and (there := online_replicas(facts)) < self.replicas:
            raise DurabilityError(
                f"durability='replicated' needs {self.replicas} replicas, and {there} follow Redis at {link.where} "
                "now; nothing was stored"
            )
        if FSYNCED in self.levels:
            await self._check_disk(link, facts)

    async def _check_disk(self, link: Wire, facts: dict[str, str]) -> None:
        if facts.get("aof_enabled") != "1":
            raise DurabilityError(
                f"durability='fsynced' needs an append-only file, and Redis at {link.where} keeps none: set appendonly "
                "yes; nothing was stored"
            )
        policy = await _setting(link, "appendfsync")
        if policy == "no":
            raise DurabilityError(
                f"durability='fsynced' cannot work with appendfsync no, as at {link.where}: set everysec or always; "
                "nothing was stored"
            )
        if policy != "always" and not await _has_waitaof(link):
            raise DurabilityError(
                f"durability='fsynced' needs WAITAOF (Redis 7.2, Valkey) or appendfsync always; Redis at {link.where} "
                f"is {facts.get('redis_version', 'older')} with {policy or 'another setting'}; nothing was stored"
            )

    async def wait(self, link: Wire, hold: str) -> None:
        """Wait until what was written on this connection is as safe as promised.

        Raises:
            DurabilityError: it is not, within the time; it is stored all the same.
            StoreError: the server did not answer, or refused to.
        """
        patience = self.timeout_ms / 1000 + 5
        if REPLICATED in self.levels:
            reached = await link.command("WAIT", self.replicas, self.timeout_ms, hold=hold, timeout=patience)
            if reached < self.replicas:
                raise _too_late(f"{reached} of {self.replicas} replicas have it", self.timeout_ms)
        if FSYNCED in self.levels:
            if not await _has_waitaof(link):
                return  # appendfsync always: the reply came after the fsync
            local, _ = await link.command("WAITAOF", 1, 0, self.timeout_ms, hold=hold, timeout=patience)
            if local < 1:
                raise _too_late("it is not on the disk", self.timeout_ms)


def _too_late(what: str, timeout_ms: int) -> DurabilityError:
    return DurabilityError(
        f"the job is stored and will run, but after {timeout_ms / 1000:g} s {what}: a failure of Redis now may lose it",
        stored=True,
    )


async def _setting(link: Wire, name: str) -> str | None:
    try:
        reply: Sequence[Any] = await link.command("CONFIG", "GET", name)
    except StoreError:
        return None  # managed services keep it to themselves
    return reply[1].decode() if len(reply) == 2 else None


async def _has_waitaof(link: Wire) -> bool:
    try:
        return (await link.command("COMMAND", "INFO", "WAITAOF"))[0] is not None
    except StoreAccessError:
        return True
