"""Services of each lifetime, as a user of neuroglia writes them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import ClassVar

from neuroglia.dependency_injection import ServiceProviderBase

from redsched import BackgroundTask, BackgroundTaskScheduler


class KitchenService:
    """A singleton."""

    def __init__(self) -> None:
        self.count = 0

    async def notify_preparation_due(self, order_id: str) -> str:
        self.count += 1
        return f"{order_id} #{self.count} in {os.getpid()}"


class UnitOfWork:
    """Scoped: one for each run."""

    closed: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.orders: list[str] = []

    async def __aenter__(self) -> UnitOfWork:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed.append(",".join(self.orders))

    def __exit__(self, *_: object) -> None:
        self.closed.append("in a thread: " + ",".join(self.orders))

    async def record(self, order_id: str) -> list[str]:
        self.orders.append(order_id)
        return self.orders

    def count_in_thread(self, order_id: str) -> int:
        self.orders.append(order_id)
        return len(self.orders)


class OrderService:
    """Transient, with a service of each lifetime, and the scheduler, from the container."""

    def __init__(self, service_provider: ServiceProviderBase, work: UnitOfWork, kitchen: KitchenService) -> None:
        self.service_provider = service_provider
        self.scheduler = service_provider.get_service(BackgroundTaskScheduler)
        self.work = work
        self.kitchen = kitchen

    async def place(self, order_id: str) -> str:
        handle = await self.scheduler.schedule_immediate_task("reminder", self.remind, args=[order_id], result_ttl=60)
        return handle.id

    async def remind(self, order_id: str) -> dict[str, object]:
        await self.work.record(order_id)
        same = self.service_provider.get_service(UnitOfWork) is self.work
        return {"work": self.work.orders, "same": same, "kitchen": await self.kitchen.notify_preparation_due(order_id)}

    async def _charge(self, order_id: str) -> None: ...


class Notifier(ABC):
    @abstractmethod
    async def send(self, order_id: str) -> str: ...


class MailNotifier(Notifier):
    async def send(self, order_id: str) -> str:
        return f"mail {order_id}"


class TextNotifier(Notifier):
    async def send(self, order_id: str) -> str:
        return f"text {order_id}"


class Report(BackgroundTask):
    """Not registered: made for each run from what the container has."""

    def __init__(self, work: UnitOfWork, kitchen: KitchenService) -> None:
        self.work = work
        self.kitchen = kitchen

    async def execute(self, order_id: str) -> list[str]:
        return await self.work.record(order_id)
