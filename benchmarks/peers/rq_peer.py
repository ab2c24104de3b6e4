"""RQ with SimpleWorker, which does not fork for each job ("Performance Notes" of its documentation), and results that
are not kept. Scheduled jobs need its scheduler, which looks once a second.
"""

import logging
import time

from common import URL, effect, run, when
from redis import Redis
from rq import Queue, SimpleWorker


def noop(number):
    effect(number)


def produce(mode, due) -> float:
    import rq_peer  # by its importable name, not as __main__

    queue = Queue("bench", connection=Redis.from_url(URL))
    started = time.perf_counter()
    if mode == "bulk":
        for start in range(0, len(due), 1000):
            jobs = [
                Queue.prepare_data(rq_peer.noop, (n,), result_ttl=0) for n in range(start, min(start + 1000, len(due)))
            ]
            queue.enqueue_many(jobs)
    else:
        for number, at in enumerate(due):
            if at is None:
                queue.enqueue(rq_peer.noop, number, result_ttl=0)
            else:
                queue.enqueue_at(when(at), rq_peer.noop, number, result_ttl=0)
    return time.perf_counter() - started


def work():
    logging.disable(logging.WARNING)
    connection = Redis.from_url(URL)
    SimpleWorker([Queue("bench", connection=connection)], connection=connection).work(
        logging_level="ERROR", with_scheduler=True
    )


if __name__ == "__main__":
    run(produce, work)
