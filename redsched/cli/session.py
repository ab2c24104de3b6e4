"""Shared by commands: the URL and prefix of Redis, and a scheduler without a worker in a separate event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import typer

from redsched import BackgroundTaskScheduler
from redsched.cli.target import load

__all__ = ["JsonFlag", "Place", "Prefix", "Url", "place", "run"]

T = TypeVar("T")

DEFAULT_URL = "redis://localhost:6379"
DEFAULT_PREFIX = "redsched"

PATIENCE_S = 1.0
"""How long a command is retried while Redis does not answer. Short, because a user waits at the prompt."""

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        show_default=False,
        help="URL of Redis, as before the command: redis://, rediss://, unix:// or embedded:///folder.",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="NAME", show_default=False, help="The job_store_prefix, as before the command."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True, slots=True)
class Place:
    """The URL and prefix of jobs."""

    url: str = DEFAULT_URL
    prefix: str = DEFAULT_PREFIX
    shards: int | None = None
    url_given: str | None = None
    """The URL, if it is on the command line, and not from the environment or the default."""
    prefix_given: str | None = None
    app: str | None = None
    """The application's scheduler, as module:attribute: its URL, prefix and keys are used if none are given."""


def place(ctx: typer.Context, url: str | None = None, prefix: str | None = None) -> Place:
    """The place of jobs, from the options after the command, or from those before it."""
    outer = ctx.obj if isinstance(ctx.obj, Place) else Place()
    return Place(
        url or outer.url,
        prefix or outer.prefix,
        outer.shards,
        url or outer.url_given,
        prefix or outer.prefix_given,
        outer.app,
    )


def run(
    where: Place,
    work: Callable[[BackgroundTaskScheduler], Awaitable[T]],
    *,
    patience: float = PATIENCE_S,
    quiet: bool = True,
) -> T:
    """Do something with a scheduler that has no worker.

    Args:
        patience: seconds for which calls are retried while Redis does not answer.
        quiet: whether warnings are hidden: the error that ends a command says enough.

    Raises:
        RedschedError: whatever the work raises.
    """

    async def session() -> T:
        if where.app is None:
            scheduler = BackgroundTaskScheduler(
                where.url, where.prefix, shards=where.shards, declared_tasks=False, retry_for=patience
            )
        else:
            application = await load(where.app)
            if where.url_given or where.prefix_given:
                application.configure(redis_url=where.url_given, job_store_prefix=where.prefix_given)
            scheduler = application.observer(retry_for=patience)
        try:
            return await work(scheduler)
        finally:
            await scheduler.shutdown(wait=False)

    log = logging.getLogger("redsched")
    level = log.level
    if quiet:
        log.setLevel(logging.ERROR)
    try:
        return asyncio.run(session())
    finally:
        log.setLevel(level)
