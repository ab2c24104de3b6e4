"""Threadmill: Django's tasks on Redis, one worker process with threads. From its README
(github.com/codingjoe/threadmill): "Utilization" (`--workers`, `--threads`); "Redis Backend Options": broker_interval
and batch_size from 1 s and 100 to 10 ms and 1000, since its mover takes so many due tasks in so long; poll_max_interval
from 1 s to 10 ms, as for arq. A Python without a GIL, with which its README has twice the throughput, is not in Debian.
It adds one task in a round trip: many at once, by `aenqueue`.
"""

import datetime
import os
import sys
from contextlib import asynccontextmanager

from common import CONCURRENCY, URL, produce_async, run, when

# -- Django's settings: this module is DJANGO_SETTINGS_MODULE ---------------------------------------------------------
QUICK = datetime.timedelta(milliseconds=10)
SECRET_KEY = "not-secret"
INSTALLED_APPS = ["threadmill"]
USE_TZ = True
TASKS = {
    "default": {
        "BACKEND": "threadmill.backends.redis.RedisTaskBackend",
        "REDIS_URL": URL,
        "OPTIONS": {"broker_interval": QUICK, "batch_size": 1000, "poll_max_interval": QUICK},
    }
}
# ---------------------------------------------------------------------------------------------------------------------

os.environ["DJANGO_SETTINGS_MODULE"] = "threadmill_peer"


@asynccontextmanager
async def opened():
    import django

    django.setup()
    from threadmill_tasks import noop

    async def add(number, due):
        await (noop if due is None else noop.using(run_after=when(due))).aenqueue(number)

    yield add, None


def work():
    command = [
        sys.executable, "-m", "django", "threadmill", "worker", "--workers", "1", "--threads", str(CONCURRENCY),
        "--poll-max-interval", "0.01", "--log-format", "%(message)s",
    ]  # fmt: skip
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run(produce_async(opened), work)
