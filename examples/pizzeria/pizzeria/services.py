"""The two services. Their methods are the tasks: a worker calls them on its own instances, in any process."""

import os

from pizzeria.orders import Orders
from pizzeria.settings import MINUTE
from redsched import BackgroundTaskScheduler, CircuitBreakerPolicy, JobSpec, RetryPolicy, current_run


class PaymentUnavailableError(ConnectionError):
    """The payment provider did not answer."""


class KitchenService:
    """From the oven to the counter."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def check_inventory(self, order_id: str) -> None:
        self._done(order_id, "inventory checked", "accepted")

    async def add_to_queue(self, order_id: str) -> None:
        self._done(order_id, "in the kitchen's queue", "queued")

    async def start_preparation(self, order_id: str) -> None:
        self._done(order_id, "preparation started", "in preparation")

    async def check_quality(self, order_id: str) -> None:
        self._done(order_id, "quality checked", "baked")

    async def mark_ready(self, order_id: str) -> None:
        self._done(order_id, "ready for delivery", "ready")

    def _done(self, order_id: str, step: str, status: str) -> None:
        self._orders.note(order_id, step, f"process {os.getpid()}")
        self._orders.set_status(order_id, status)


class OrderService:
    """Takes orders, has them paid, and knows what has to happen when."""

    def __init__(self, scheduler: BackgroundTaskScheduler, orders: Orders, kitchen: KitchenService) -> None:
        self._scheduler = scheduler
        self._orders = orders
        self._kitchen = kitchen

    async def place(self, order_id: str, pizza: str, price: float) -> None:
        """Store the order and its whole workflow: all of its jobs carry its number as a tag."""
        self._orders.place(order_id, pizza, price)
        kitchen = self._kitchen
        workflow = [
            ("inventory_check", 0, kitchen.check_inventory),
            ("kitchen_queue", 5, kitchen.add_to_queue),
            ("preparation_start", 15, kitchen.start_preparation),
            ("quality_check", 25, kitchen.check_quality),
            ("delivery_ready", 35, kitchen.mark_ready),
            ("delivery_reminder", 45, self.remind_of_delivery),
        ]
        # The ids are the order's: an order that is sent twice is scheduled once.
        specs = [
            JobSpec(
                name, task, args=[order_id], delay=minutes * MINUTE,
                job_id=f"{order_id}:{name}", replace_existing="keep", tags=["workflow", order_id],
            )
            for name, minutes, task in workflow
        ]  # fmt: skip
        specs.append(
            JobSpec(
                "payment", self.charge, args=[order_id], job_id=f"{order_id}:payment", replace_existing="keep",
                tags=["payment", order_id], retry=RetryPolicy(max_attempts=5, backoff_factor=2.0, initial_delay=MINUTE),
                circuit_breaker=CircuitBreakerPolicy(failure_threshold=5, recovery_timeout=MINUTE, name="payments"),
            )
        )  # fmt: skip
        await self._scheduler.schedule_many(specs)

    async def cancel(self, order_id: str) -> int:
        """Stop what is still to come. Returns how many jobs that were."""
        stopped = await self._scheduler.cancel_jobs(tag=order_id)
        self._orders.set_status(order_id, "cancelled")
        self._orders.note(order_id, f"cancelled: {len(stopped)} jobs stopped", f"process {os.getpid()}")
        return len(stopped)

    async def charge(self, order_id: str) -> None:
        """Charge the customer. The provider of this example does not answer at first, as providers do."""
        attempt = current_run().attempt
        if attempt == 1:
            raise PaymentUnavailableError("no answer from the payment provider")
        self._orders.note(order_id, f"paid, in attempt {attempt}", f"process {os.getpid()}")

    async def remind_of_delivery(self, order_id: str) -> None:
        self._orders.note(order_id, "delivery reminded", f"process {os.getpid()}")
        self._orders.set_status(order_id, "out for delivery")
