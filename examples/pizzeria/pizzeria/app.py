"""The wiring, and the web application: `uvicorn pizzeria.app:app`. Worker: `redsched worker pizzeria.app:scheduler`."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from pizzeria import jobs
from pizzeria.orders import OrderNotFoundError, Orders
from pizzeria.services import KitchenService, OrderService
from pizzeria.settings import FOLDER, REDIS_URL
from redsched import BackgroundTaskScheduler
from redsched.integrations.starlette import get_scheduler, lifespan

orders = Orders(FOLDER)
scheduler = BackgroundTaskScheduler(REDIS_URL, "mario_pizzeria", shutdown_grace=10)
kitchen = KitchenService(orders)
order_service = OrderService(scheduler, orders, kitchen)
# Both processes import this module, so each has its own instances, and tells its scheduler of them.
scheduler.bind(kitchen)
scheduler.bind(order_service)
scheduler.add_failure_handler(jobs.OrderMonitor())

# This process only schedules. Without worker=False it would run jobs as well, and no second process were needed.
app = FastAPI(title="Mario's pizzeria", lifespan=lifespan(scheduler, worker=False))


class Order(BaseModel):
    pizza: str
    price: float


@app.put("/orders/{order_id}", status_code=202)
async def place(order_id: str, order: Order) -> dict[str, Any]:
    await order_service.place(order_id, order.pizza, order.price)
    return _look(order_id)


@app.get("/orders/{order_id}")
async def look(order_id: str) -> dict[str, Any]:
    return _look(order_id)


@app.delete("/orders/{order_id}")
async def cancel(order_id: str) -> dict[str, Any]:
    _look(order_id)
    return {"stopped": await order_service.cancel(order_id)}


@app.get("/orders/{order_id}/jobs")
async def what_is_to_come(
    order_id: str, scheduler: Annotated[BackgroundTaskScheduler, Depends(get_scheduler)]
) -> list[dict[str, Any]]:
    return [{"name": job.name, "at": job.next_run_time} for job in await scheduler.get_jobs(tag=order_id)]


def _look(order_id: str) -> dict[str, Any]:
    try:
        return orders.get(order_id)
    except OrderNotFoundError:
        raise HTTPException(404, f"there is no order {order_id}") from None
