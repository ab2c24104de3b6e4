"""A worker in a FastAPI or Starlette application: with its lifespan, and at hand in its routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from redsched import BackgroundTaskScheduler, InvalidConfigError, Reason, SchedulerStateError, State
from redsched.integrations.starlette import get_scheduler, lifespan
from redsched.testing import fresh_prefix
from tests.integrations.harness import web

APPLICATION = "tests.integrations.shop:app"
Scheduler = Annotated[BackgroundTaskScheduler, Depends(get_scheduler)]


@pytest.fixture
async def scheduler(redsched_url: str) -> AsyncIterator[BackgroundTaskScheduler]:
    made = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    yield made
    await made.clear_all_jobs()


@asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        yield httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


async def test_three_lines_embed_a_worker_that_runs_what_a_route_schedules(redsched_url: str, tmp_path: Path) -> None:
    prefix = fresh_prefix()
    with web(APPLICATION, tmp_path / "log", SHOP_REDIS=redsched_url, SHOP_PREFIX=prefix) as server:
        assert server.post("/orders/order-1").json() == f"order-1 reminded in {server.process.pid}"


async def test_at_sigterm_runs_are_finished_before_the_server_ends(
    scheduler: BackgroundTaskScheduler, tmp_path: Path
) -> None:
    given = {"SHOP_REDIS": scheduler.redis_url, "SHOP_PREFIX": scheduler.prefix}
    with web(APPLICATION, tmp_path / "log", **given) as server:
        job_id = server.post("/bake/order-1?seconds=1.5").json()
        while (await scheduler.get_job(job_id)).state != State.RUNNING:  # type: ignore[union-attr]
            pass
        server.terminate()
        assert "Application shutdown complete" in server.log
    # No worker is left: the state now was reached before the end.
    result = await scheduler.wait_for_result(job_id, timeout=2)
    assert result.result == "order-1 baked"


async def test_what_takes_longer_than_the_grace_time_is_given_back_and_starts_at_once_elsewhere(
    scheduler: BackgroundTaskScheduler, tmp_path: Path
) -> None:
    given = {"SHOP_REDIS": scheduler.redis_url, "SHOP_PREFIX": scheduler.prefix, "SHOP_GRACE": "0.2"}
    with web(APPLICATION, tmp_path / "log", **given) as server:
        job_id = server.post("/bake/order-1?seconds=3").json()
        while (await scheduler.get_job(job_id)).state != State.RUNNING:  # type: ignore[union-attr]
            pass
        server.terminate()
        with web(APPLICATION, tmp_path / "log2", **given):
            await scheduler.wait_for_result(job_id, timeout=20)
    history = await scheduler.get_history(job_id)
    assert [event.reason for event in history if event.kind == "released"] == [Reason.SHUTDOWN]
    assert {event.attempt for event in history if event.attempt is not None} == {1}


async def test_the_inner_lifespan_is_open_while_tasks_may_run_and_its_state_reaches_the_routes(
    scheduler: BackgroundTaskScheduler,
) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        steps.append(f"open, running={scheduler.running}")
        yield {"oven": "hot"}
        steps.append(f"closed, running={scheduler.running}")

    app = FastAPI(lifespan=lifespan(scheduler, inner=inner))
    async with app.router.lifespan_context(app) as state:
        assert scheduler.running
        assert state["oven"] == "hot"
    assert steps == ["open, running=False", "closed, running=False"]


async def test_the_scheduler_is_shut_down_when_the_application_fails(scheduler: BackgroundTaskScheduler) -> None:
    app = FastAPI(lifespan=lifespan(scheduler))
    with pytest.raises(ZeroDivisionError):
        async with app.router.lifespan_context(app):
            raise ZeroDivisionError
    assert not scheduler.running


async def test_an_application_without_a_worker_schedules_only(scheduler: BackgroundTaskScheduler) -> None:
    app = FastAPI(lifespan=lifespan(scheduler, worker=False))
    async with app.router.lifespan_context(app):
        assert scheduler.running
        assert scheduler.worker is None


async def test_an_application_can_be_started_again(scheduler: BackgroundTaskScheduler) -> None:
    app = FastAPI(lifespan=lifespan(scheduler))

    @app.post("/")
    async def count(scheduler: Scheduler) -> int:
        handle = await scheduler.schedule_immediate_task("three", _three, result_ttl=60)
        return (await handle.result(timeout=10)).result

    for _ in range(2):
        async with client(app) as http:
            assert (await http.post("/")).json() == 3


async def _three() -> int:
    return 3


TEST_CLIENT = pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient.")


@TEST_CLIENT
async def test_starlette_has_it_in_its_routes_and_in_those_of_mounted_applications(
    redsched_url: str,
) -> None:
    from starlette.testclient import TestClient

    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)

    async def prefix(request: Request) -> JSONResponse:
        return JSONResponse(get_scheduler(request).prefix)

    inside = Starlette(routes=[Route("/prefix", prefix)])
    app = Starlette(routes=[Route("/prefix", prefix), Mount("/inside", inside)], lifespan=lifespan(scheduler))
    with TestClient(app) as http:
        assert http.get("/prefix").json() == scheduler.prefix
        assert http.get("/inside/prefix").json() == scheduler.prefix


@TEST_CLIENT
async def test_a_web_socket_has_it_as_well(redsched_url: str) -> None:
    from starlette.testclient import TestClient

    scheduler = BackgroundTaskScheduler(redsched_url, fresh_prefix(), declared_tasks=False)
    app = FastAPI(lifespan=lifespan(scheduler))

    @app.websocket("/")
    async def tell(socket: WebSocket, scheduler: Scheduler) -> None:
        await socket.accept()
        await socket.send_json(scheduler.prefix)

    with TestClient(app) as http, http.websocket_connect("/") as socket:
        assert socket.receive_json() == scheduler.prefix


async def test_an_application_without_a_scheduler_is_told_how_to_get_one() -> None:
    app = FastAPI()

    @app.get("/")
    async def home(scheduler: Scheduler) -> None: ...

    async with client(app) as http:
        with pytest.raises(SchedulerStateError, match=r"lifespan=lifespan\(scheduler\)"):
            await http.get("/")


def test_what_is_no_scheduler_is_refused_at_once() -> None:
    with pytest.raises(InvalidConfigError, match="pass a BackgroundTaskScheduler"):
        lifespan("redis://localhost:6379")  # type: ignore[arg-type]


async def test_an_application_whose_redis_is_away_does_not_start() -> None:
    from redsched import StoreUnavailableError

    scheduler = BackgroundTaskScheduler("redis://127.0.0.1:1", retry_for=0.2)
    app = FastAPI(lifespan=lifespan(scheduler))
    with pytest.raises(StoreUnavailableError):
        async with app.router.lifespan_context(app):
            pass


def test_the_error_without_starlette_names_the_extra(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.integrations.harness import environment

    hide = "import sys; sys.modules['starlette.requests'] = None; "
    code = hide + "import redsched.integrations.starlette"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert 'pip install "redsched[web]"' in done.stderr
