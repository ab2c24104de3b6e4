"""RQ with SimpleWorker, which does not fork for each job: six times as fast in its own benchmark (github.com/rq/rq,
docs/benchmark.md). enqueue_many with prepare_data for bulk, result_ttl=0 since no result is read (python-rq.org, Queues
and Results). Jobs with a time need its scheduler, which looks once a second and cuts times to whole seconds: they are
rounded up, or it would run jobs early.
"""

import logging
import time

import rq_peer  # the task by its importable name, not as __main__'s
from common import URL, chunks, effect, run, when
from redis import Redis
from rq import Queue, SimpleWorker


def noop(number):
    effect(number)


def produce(mode, jobs) -> float:
    queue = Queue("bench", connection=Redis.from_url(URL))
    if mode == "single":
        queue.enqueue(rq_peer.noop, jobs.pop(0)[0], result_ttl=0)
    started = time.perf_counter()
    if mode == "bulk":
        for part in chunks(jobs):
            queue.enqueue_many([Queue.prepare_data(rq_peer.noop, (number,), result_ttl=0) for number, _ in part])
    else:
        for number, due in jobs:
            if due is None:
                queue.enqueue(rq_peer.noop, number, result_ttl=0)
            else:
                queue.enqueue_at(when(-(-due // 1000) * 1000), rq_peer.noop, number, result_ttl=0)
    return time.perf_counter() - started


def work():
    logging.disable(logging.WARNING)
    connection = Redis.from_url(URL)
    worker = SimpleWorker([Queue("bench", connection=connection)], connection=connection)
    worker.work(logging_level="ERROR", with_scheduler=True)


if __name__ == "__main__":
    run(produce, work)
