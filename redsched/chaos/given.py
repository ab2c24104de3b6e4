"""A chaos run on a server of the user's: what is asked of it before, and what is removed afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redsched import BackgroundTaskScheduler, InvalidInputError, StoreError
from redsched.store.urls import without_password
from redsched.testing import FaultProxy, fresh_prefix, remove_prefix

__all__ = ["Given", "Refusal", "look_at", "remove_keys"]

NEEDED = frozenset({"version", "eviction", "memory", "replicas", "acl", "cluster"})
"""Checks of `redsched doctor` without which a run would fail for reasons that are not redsched's. The others are about
days, such as persistence, or about other users of the server."""


class Refusal(Exception):  # noqa: N818 - it says what it is
    """The server cannot be used for a chaos run; the text says why."""


@dataclass(frozen=True, slots=True)
class Given:
    """A server that others may use as well: a run keeps to its prefix, and does nothing to the server itself."""

    url: str = field(repr=False)
    prefix: str = field(default_factory=lambda: fresh_prefix("redsched-chaos"))

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return without_password(self.url)

    def why_not_proxied(self) -> str | None:
        """Why no proxy can stand before this server, or None: it can."""
        try:
            FaultProxy.before(self.url)
        except InvalidInputError as error:
            return str(error)
        return None


@asynccontextmanager
async def _asking(given: Given) -> AsyncGenerator[BackgroundTaskScheduler]:
    scheduler = BackgroundTaskScheduler(given.url, given.prefix, retry_for=5.0, declared_tasks=False)
    try:
        yield scheduler
    finally:
        await scheduler.shutdown()


async def look_at(given: Given) -> str:
    """Ask the server whether a run can be made on it. Changes nothing. Returns its name and version.

    Raises:
        Refusal: it cannot; the text has each reason, and what to do about it.
        StoreError: no answer, or no access.
        InvalidConfigError: the URL is wrong.
    """
    async with _asking(given) as scheduler:
        findings = await scheduler.examine_server()
    wrong = [each for each in findings if each.level == "error" and each.check in NEEDED]
    if wrong:
        raise Refusal("; ".join(f"{each.check}: {each.message} ({each.advice})" for each in wrong))
    return next((each.message for each in findings if each.check == "version" and each.level == "ok"), "a server")


async def remove_keys(given: Given) -> None:
    """Delete every key of the run's prefix.

    Raises:
        RuntimeError: Redis does not answer, or refuses; some keys may be left.
    """
    async with _asking(given) as scheduler:
        try:
            await remove_prefix(scheduler)
        except StoreError as error:
            raise RuntimeError(f"keys may be left under the prefix {given.prefix}: {error}") from error
