"""Celery with threads. "Optimizing" in its user guide: results ignored, a prefetch limit that suits short tasks, and no
gossip, mingle or heartbeat. Tasks with an eta are held in the worker's memory, and the prefetch is raised by each.
"""

import logging
import os
import sys
import time

from celery import Celery
from common import CONCURRENCY, URL, effect, run, when

app = Celery("celery_peer", broker=URL)
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=10, broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False, task_acks_late=False, broker_pool_limit=10, worker_send_task_events=False,
)  # fmt: skip


@app.task(name="noop")
def noop(number):
    effect(number)


def produce(mode, due) -> float:
    started = time.perf_counter()
    with app.producer_pool.acquire(block=True) as producer:
        for number, at in enumerate(due):
            noop.apply_async((number,), eta=None if at is None else when(at), producer=producer)
    return time.perf_counter() - started


def work():
    logging.disable(logging.WARNING)
    os.execv(
        sys.executable,
        [
            sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "--pool", "threads", "--concurrency",
            str(CONCURRENCY), "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    run(produce, work)
