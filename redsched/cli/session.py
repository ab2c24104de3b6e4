"""What commands share: where Redis is, and a scheduler that only asks and changes, in an event loop of its own."""

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
"""How long a command is sent again while Redis does not answer: somebody waits at the prompt."""

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        show_default=False,
        help="Where Redis is, as before the command: redis://, rediss://, unix:// or embedded:///folder.",
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="NAME", show_default=False, help="The job_store_prefix, as before the command."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where jobs are."""

    url: str = DEFAULT_URL
    prefix: str = DEFAULT_PREFIX
    shards: int | None = None
    url_given: str | None = None
    """The URL, if it was given on the command line, and not by the environment or by default."""
    prefix_given: str | None = None
    app: str | None = None
    """The application's scheduler, as module:attribute: its URL, prefix and keys count where none are given."""


def place(ctx: typer.Context, url: str | None = None, prefix: str | None = None) -> Place:
    """Where jobs are, by the options after the command, or by those before it."""
    outer = ctx.obj if isinstance(ctx.obj, Place) else Place()
    return Place(
        url or outer.url, prefix or outer.prefix, outer.shards, url or outer.url_given, prefix or outer.prefix_given,
        outer.app,
    )  # fmt: skip


def run(
    where: Place,
    work: Callable[[BackgroundTaskScheduler], Awaitable[T]],
    *,
    patience: float = PATIENCE_S,
    quiet: bool = True,
) -> T:
    """Do something with a scheduler that runs nothing itself.

    Args:
        patience: seconds for which calls are sent again while Redis does not answer.
        quiet: whether warnings are kept from the terminal: the error that ends a command says it all.

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
