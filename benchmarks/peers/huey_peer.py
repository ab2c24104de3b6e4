"""huey with RedisHuey, which pops with BRPOP, one consumer process (huey.readthedocs.io, "Consuming Tasks": `-w`, `-k`,
`-n` for no periodic tasks, `-C` for no health check); results=False, since no result is read. Its workers are
threads, which are its default. Its scheduler looks once a second, which is the least that it takes (`-s`). It adds one
task in a round trip: there is no other way.
"""

import logging
import os
import sys
import time

from common import CONCURRENCY, URL, effect, run, when
from huey import RedisHuey

huey = RedisHuey("bench", url=URL, results=False)


@huey.task()
def noop(number):
    effect(number)


def produce(mode, jobs) -> float:
    import huey_peer  # the task by its importable name, not as __main__'s

    add = huey_peer.noop
    if mode == "single":
        add(jobs.pop(0)[0])
    started = time.perf_counter()
    for number, due in jobs:
        if due is None:
            add(number)
        else:
            add.schedule((number,), eta=when(due))
    return time.perf_counter() - started


def work():
    logging.disable(logging.WARNING)
    command = [
        sys.executable, "-m", "huey.bin.huey_consumer", "huey_peer.huey", "-w", str(CONCURRENCY), "-k", "thread",
        "-n", "-C", "-q",
    ]  # fmt: skip
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(produce, work)
