"""A FastAPI application as a user writes it."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from fastapi import Depends, FastAPI

from redsched import BackgroundTaskScheduler, schedule_task
from redsched.integrations.starlette import get_scheduler, lifespan

scheduler = BackgroundTaskScheduler(
    os.environ["SHOP_REDIS"], os.environ["SHOP_PREFIX"], shutdown_grace=float(os.environ.get("SHOP_GRACE", "30"))
)
app = FastAPI(lifespan=lifespan(scheduler))

Scheduler = Annotated[BackgroundTaskScheduler, Depends(get_scheduler)]


@schedule_task
async def remind(order_id: str) -> str:
    return f"{order_id} reminded in {os.getpid()}"


@schedule_task
async def bake(order_id: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"{order_id} baked"


@app.get("/")
async def home(scheduler: Scheduler) -> bool:
    return scheduler.running


@app.post("/orders/{order_id}")
async def place(order_id: str, scheduler: Scheduler) -> str:
    handle = await scheduler.schedule_immediate_task("reminder", remind, args=[order_id], result_ttl=60)
    return (await handle.result(timeout=10)).result


@app.post("/bake/{order_id}")
async def start_baking(order_id: str, seconds: float, scheduler: Scheduler) -> str:
    handle = await scheduler.schedule_immediate_task("bake", bake, args=[order_id, seconds], result_ttl=60)
    return handle.id
