"""dramatiq with its Redis broker, one worker process with threads (dramatiq.io, `--processes` and `--threads` of its
command). From "Environment Variables" of its reference: dramatiq_queue_prefetch, 1000 messages ahead. Without a result
backend, since no result is read; the middleware is the default's. A message with a delay waits in the worker's memory.
It adds one message in a round trip: there is no other way.
"""

import os
import sys
import time

import dramatiq
from common import CONCURRENCY, URL, effect, run
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis

broker = RedisBroker(url=URL)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop", queue_name="bench")
def noop(number):
    effect(number)


def produce(mode, jobs) -> float:
    if mode == "single":
        noop.send(jobs.pop(0)[0])
    started = time.perf_counter()
    for number, due in jobs:
        if due is None:
            noop.send(number)
        else:
            noop.send_with_options(args=(number,), delay=max(0, due - current_millis()))
    return time.perf_counter() - started


def work():
    os.environ["dramatiq_queue_prefetch"] = "1000"  # noqa: SIM112 - its name is in small letters
    command = [
        sys.executable, "-m", "dramatiq", "dramatiq_peer", "--processes", "1", "--threads", str(CONCURRENCY),
        "--skip-logging",
    ]  # fmt: skip
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(produce, work)
