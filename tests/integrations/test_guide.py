"""docs/guide/integrations.md: what a stranger does in the first five minutes."""

from __future__ import annotations

import re
from pathlib import Path

from redsched import BackgroundTaskScheduler
from redsched.testing import fresh_prefix
from tests.integrations.harness import web
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "guide" / "integrations.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


async def test_the_fastapi_application_of_the_guide_runs_as_it_stands(redsched_url: str, tmp_path: Path) -> None:
    prefix = fresh_prefix()
    (tmp_path / "shop.py").write_text(
        BLOCKS[0]
        .replace('"embedded://", "shop"', f'"{redsched_url}", "{prefix}"')
        .replace("delay_seconds=5", "delay_seconds=0.2")
        .replace("start preparing order {order_id}", 'start preparing order {order_id}", flush=True, end="\\n')
    )
    scheduler = BackgroundTaskScheduler(redsched_url, prefix)
    with web("shop:app", tmp_path / "log", PYTHONPATH=f"{ROOT}:{tmp_path}") as server:
        job_id = server.post("/orders/order-1").json()
        await scheduler.wait_for_result(job_id, timeout=10)
        assert "start preparing order order-1" in server.log
    await scheduler.clear_all_jobs()


async def test_the_neuroglia_blocks_of_the_guide_make_an_application_and_a_worker() -> None:
    from redsched.integrations import neuroglia as integration

    given: dict[str, object] = {
        "PizzaOrderService": type("PizzaOrderService", (), {}),
        "BackgroundTaskScheduler": BackgroundTaskScheduler,
    }
    for block in BLOCKS[1:3]:
        exec(block, given)
    make_scheduler = given["make_scheduler"]
    assert callable(make_scheduler)
    scheduler = make_scheduler()
    assert isinstance(scheduler.registry.provider, integration.Container)
    assert (scheduler.redis_url, scheduler.prefix) == ("redis://localhost:6379", "mario_pizzeria")
