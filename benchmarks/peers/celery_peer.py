"""Celery with a thread pool, one process. From its user guide (docs.celeryq.dev): "Optimizing" (a large prefetch for
short tasks, transient messages), "Tasks" (results ignored), "Workers" (no gossip, mingle, heartbeat). Tasks with an eta
are held in the worker's memory.
"""

import logging
import os
import sys
import time

from celery import Celery
from common import CONCURRENCY, URL, effect, run, when

app = Celery("celery_peer", broker=URL)
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False, worker_send_task_events=False, task_default_delivery_mode="transient",
)  # fmt: skip


@app.task(name="noop")
def noop(number):
    effect(number)


def produce(mode, jobs) -> float:
    with app.producer_pool.acquire(block=True) as producer:
        if mode == "single":
            noop.apply_async((jobs.pop(0)[0],), producer=producer)
        started = time.perf_counter()
        for number, due in jobs:
            noop.apply_async((number,), eta=None if due is None else when(due), producer=producer)
        return time.perf_counter() - started


def work():
    logging.disable(logging.WARNING)
    command = [
        sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "--pool", "threads", "--concurrency",
        str(CONCURRENCY), "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
    ]  # fmt: skip
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(produce, work)
