"""An application of neuroglia, whose imports are those of its documentation. The worker process makes it as well."""

from __future__ import annotations

import os

from neuroglia.dependency_injection import ServiceProviderBase
from neuroglia.hosting.abstractions import ApplicationSettings
from neuroglia.hosting.web import WebApplicationBuilder

import redsched.integrations.neuroglia

redsched.integrations.neuroglia.alias()

from neuroglia.scheduling import BackgroundTaskScheduler  # noqa: E402  # pyright: ignore

from tests.integrations.pizzeria_services import KitchenService, OrderService, UnitOfWork  # noqa: E402


def create_app(mode: str = os.environ.get("PIZZERIA_MODE", "simple")):
    builder = WebApplicationBuilder(ApplicationSettings() if mode == "advanced" else None)
    builder.services.add_background_task_scheduler(
        redis_url=os.environ["PIZZERIA_REDIS"],
        job_store_prefix=os.environ["PIZZERIA_PREFIX"],
        worker=os.environ.get("PIZZERIA_WORKER", "1") == "1",
        shutdown_grace=10,
    )
    builder.services.add_singleton(KitchenService)
    builder.services.add_scoped(UnitOfWork)
    builder.services.add_transient(OrderService)
    app = builder.build_app_with_lifespan() if mode == "advanced" else builder.build()
    services: ServiceProviderBase = app.state.services if mode == "advanced" else app.services

    @app.get("/")
    async def home() -> bool:
        return services.get_service(BackgroundTaskScheduler).running

    @app.post("/orders/{order_id}")
    async def place(order_id: str) -> str:
        async with services.create_async_scope() as scope:
            return await scope.get_service(OrderService).place(order_id)

    app.state.provider = services
    return app


def scheduler() -> BackgroundTaskScheduler:
    """For `redsched worker`."""
    return create_app("simple").services.get_service(BackgroundTaskScheduler)


def __getattr__(name: str):
    if name == "app":
        return create_app()
    raise AttributeError(name)
