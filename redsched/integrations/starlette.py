"""FastAPI and Starlette: a worker that starts and stops with the application, and the scheduler in a route.

scheduler = BackgroundTaskScheduler("redis://localhost:6379", "mario_pizzeria")
app = FastAPI(lifespan=lifespan(scheduler))

@app.post("/orders/{order_id}")
async def place(order_id: str, scheduler: Annotated[BackgroundTaskScheduler, Depends(get_scheduler)]) -> None:
    await scheduler.schedule_delayed_task("reminder", remind, delay_minutes=15, args=[order_id])
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from redsched import BackgroundTaskScheduler, InvalidConfigError, SchedulerStateError

try:
    from starlette.requests import HTTPConnection
except ImportError as _missing:
    raise ImportError(
        'redsched.integrations.starlette needs Starlette: pip install "redsched[web]", or FastAPI', name=_missing.name
    ) from _missing

__all__ = ["get_scheduler", "lifespan"]

_KEY = "redsched_scheduler"

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(
    scheduler: BackgroundTaskScheduler, *, worker: bool = True, inner: Lifespan | None = None
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """What to pass as `lifespan=` to a Starlette or FastAPI application: the scheduler starts and stops with it.

    At the stop, which comes when open requests are answered, runs have the scheduler's `shutdown_grace` to finish; the
    rest is given back and starts at once elsewhere. Choose it below the time after which your platform kills.

    Args:
        scheduler: one that is not started yet. Each process of `uvicorn --workers 4` makes its own by importing.
        worker: False = this application only schedules; its jobs are run by others.
        inner: the application's own lifespan. It is entered first and left last, so that tasks can use what it opens;
            it may schedule jobs already.

    Raises:
        InvalidConfigError: `scheduler` is none.

    >>> import redsched
    >>> from fastapi import FastAPI
    >>> from redsched.integrations.starlette import lifespan
    >>> app = FastAPI(lifespan=lifespan(redsched.BackgroundTaskScheduler("redis://localhost:6379", "mario_pizzeria")))
    """
    if not isinstance(scheduler, BackgroundTaskScheduler):
        raise InvalidConfigError(f"scheduler is {scheduler!r}; pass a BackgroundTaskScheduler", field="scheduler")

    @asynccontextmanager
    async def of_application(app: Any) -> AsyncGenerator[Mapping[str, Any]]:
        setattr(app.state, _KEY, scheduler)
        async with _nothing(app) if inner is None else inner(app) as state:
            await scheduler.start(worker=worker)
            try:
                # In the state of each request as well: those of mounted applications have no other way to it.
                yield {**(state or {}), _KEY: scheduler}
            finally:
                await scheduler.shutdown()

    return of_application


@asynccontextmanager
async def _nothing(_app: Any) -> AsyncGenerator[None]:
    yield


def get_scheduler(connection: HTTPConnection) -> BackgroundTaskScheduler:
    """The application's scheduler: of a request, or of a web socket. With FastAPI, a dependency of a route.

    Raises:
        SchedulerStateError: the application has none.

    >>> from typing import Annotated
    >>> import redsched
    >>> from fastapi import Depends, FastAPI
    >>> from redsched.integrations.starlette import get_scheduler
    >>> app = FastAPI()
    >>> @app.delete("/orders/{order_id}")
    ... async def cancel(
    ...     order_id: str, scheduler: Annotated[redsched.BackgroundTaskScheduler, Depends(get_scheduler)]
    ... ) -> bool:
    ...     return await scheduler.cancel(tag=order_id)
    """
    app = connection.scope.get("app")
    scheduler = getattr(getattr(app, "state", None), _KEY, None) or getattr(connection.state, _KEY, None)
    if scheduler is None:
        raise SchedulerStateError(
            "this application has no scheduler: make it with FastAPI(lifespan=lifespan(scheduler)), and let the server "
            "run its lifespan (uvicorn does; a TestClient does inside of `with`)"
        )
    return scheduler
