"""The smallest program with redsched: no server needed, it starts its own. `python examples/quickstart.py`"""

import asyncio

from redsched import BackgroundTaskScheduler


async def remind(order_id: str) -> str:
    print(f"Start preparing {order_id}")
    return f"{order_id} reminded"


async def main() -> None:
    async with BackgroundTaskScheduler("embedded://", "mario_pizzeria") as scheduler:
        handle = await scheduler.schedule_delayed_task("reminder", remind, delay_seconds=1, args=["order-1"])
        print(f"Accepted as {handle.id}; it is in the server now, whatever happens to this process.")
        result = await handle.result(timeout=10)
        print(f"{result.outcome}: {result.result!r}, in attempt {result.attempt}")


asyncio.run(main())
