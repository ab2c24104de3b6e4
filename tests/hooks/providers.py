"""Providers and tasks whose annotations are texts, as in a module of an application."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from redsched import PROVIDED, BackgroundTask, CurrentRun, Provide, current_run, schedule_task

if TYPE_CHECKING:
    from decimal import Decimal

log: list[Any] = []


class Pool:
    name = "pool"


async def get_pool() -> Pool:
    log.append("pool")
    return Pool()


async def get_session(pool: Annotated[Pool, Provide(get_pool)]) -> AsyncGenerator[str]:
    log.append("session begins")
    try:
        yield f"session of {pool.name}"
    except BaseException as error:
        log.append(f"session saw {type(error).__name__}")
        raise
    else:
        log.append("session ends")


def get_repository(session: Annotated[str, Provide(get_session)]) -> Iterator[str]:
    log.append("repository begins")
    yield f"repository in {session}"
    log.append("repository ends")


def get_thread() -> Iterator[int]:
    log.append(threading.get_ident())
    yield threading.get_ident()
    log.append(threading.get_ident())


@asynccontextmanager
async def get_by_context_manager() -> AsyncGenerator[str]:
    yield "async"
    log.append("async left")


@contextmanager
def get_by_plain_context_manager() -> Generator[str]:
    yield "plain"
    log.append("plain left")


def get_run_id(run: Annotated[CurrentRun, Provide(current_run)]) -> str:
    return run.context.run_id


Session = Annotated[str, Provide(get_session)]


@schedule_task
async def report(order_id: str, session: Session = PROVIDED, *, tone: str = "loud") -> list[str]:
    log.append("task")
    return [order_id, session, tone]


async def session_first(session: Session, order_id: str, price: Decimal | None = None) -> list[str]:
    return [session, order_id]


async def both(repository: Annotated[str, Provide(get_repository)], session: Session) -> list[str]:
    log.append("task")
    return [repository, session]


async def by_context_managers(
    a: Annotated[str, Provide(get_by_context_manager)], b: Annotated[str, Provide(get_by_plain_context_manager)]
) -> list[str]:
    return [a, b]


async def run_id(of_run: Annotated[str, Provide(get_run_id)]) -> str:
    return of_run


def plain(order_id: str, thread: Annotated[int, Provide(get_thread)], session: Session) -> list[Any]:
    log.append("task")
    return [order_id, thread == threading.get_ident(), session]


async def failing(session: Session) -> None:
    raise ValueError("bad dough")


class Remind(BackgroundTask):
    """Instances come from nowhere; the parameters of `execute` are provided."""

    async def execute(self, order_id: str, session: Session) -> list[str]:
        return [order_id, session]


class Oven:
    async def heat(self, degrees: int, session: Session) -> list[Any]:
        return [degrees, session]


async def with_service(pool: Annotated[Pool, Provide()]) -> str:
    return pool.name
