"""The regular jobs, and the handling of failures. Declared once, however many processes import this."""

import logging
from typing import Any

from pizzeria.orders import Orders
from pizzeria.settings import FOLDER, MINUTE
from redsched import TaskFailureHandler, schedule_task

log = logging.getLogger("pizzeria")


@schedule_task(cron="0 8 * * *", timezone="Europe/Rome")
async def daily_inventory_check() -> None:
    """Each morning at eight, by Mario's clock."""
    log.warning("the inventory is checked")


@schedule_task(interval=10 * MINUTE)
async def order_monitoring() -> int:
    """How many orders wait in the kitchen; `redsched jobs show` tells when it runs next."""
    return Orders(FOLDER).count("queued")


class OrderMonitor(TaskFailureHandler):
    """Says what went wrong, and with which order."""

    async def handle_task_failure(self, task_name: str, exception: Exception, context: dict[str, Any]) -> None:
        again = "it is tried again" if context["will_retry"] else "given up"
        log.warning("%s of %s failed: %s; %s", task_name, context.get("order_id"), exception, again)
