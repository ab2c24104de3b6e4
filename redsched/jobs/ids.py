"""Identifiers: 16 characters, sortable by time, from an alphabet that is safe in keys, shells and URLs.

16 characters instead of a UUID's 36 save about 40 bytes of Redis memory for each pending job.

A run has one id, wherever it is named. The only run of a one-shot job has the id of its job. Each run of a periodic
job, and each run beside a schedule (`run_now`), is `<job id>@<ms since the epoch>`. A job's id never ends like that.
"""

from __future__ import annotations

import random
import time

from redsched.runtime import forks

__all__ = ["job_of", "new_id", "next_id", "parse_run_id", "run_id_of"]

_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"  # sorted as ASCII sorts it
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_random = random.SystemRandom()
# Seeded from the system once, then cheap: an id must be unique, not secret. A forked child reseeds.
_generator = random.Random(_random.getrandbits(128))  # an id must be unique, not secret  # nosec B311
_last: tuple[int, str] = (0, "")


def _reseed() -> None:
    _generator.seed(_random.getrandbits(128))


forks.on_fork(_reseed)


def new_id() -> str:
    """A new identifier: 42 bits of milliseconds, then 54 random bits.

    The time is this machine's and serves only for sorting by eye; nothing is decided by it.
    """
    forks.notice()
    return next_id()


def next_id() -> str:
    """As `new_id`, for many in a row: after `forks.notice()`, without an await in between."""
    global _last
    now_ms = time.time_ns() // 1_000_000  # noqa: TID251  only so that ids sort; no schedule depends on it
    if _last[0] != now_ms:
        digits = ""
        rest = now_ms
        for _ in range(7):
            rest, digit = divmod(rest, 64)
            digits = _ALPHABET[digit] + digits
        _last = (now_ms, digits)
    bits = _generator.getrandbits(54)
    return (
        f"{_last[1]}{_PAIRS[bits & 4095]}{_PAIRS[(bits >> 12) & 4095]}{_PAIRS[(bits >> 24) & 4095]}"
        f"{_PAIRS[(bits >> 36) & 4095]}{_ALPHABET[bits >> 48]}"
    )


def run_id_of(job_id: str, fire_ms: int) -> str:
    """The id of a run that is not its job's only one."""
    return f"{job_id}@{fire_ms}"


def parse_run_id(run_id: str) -> tuple[str, int | None]:
    """The id of a run's job, and the instant that the run is named by; None for a one-shot job's only run."""
    head, _, tail = run_id.rpartition("@")
    if head and tail.isascii() and tail.isdigit():
        return head, int(tail[:20])  # another program may have stored thousands of digits
    return run_id, None


def job_of(run_id: str) -> str:
    """The id of the job that a run is of."""
    return parse_run_id(run_id)[0] if "@" in run_id else run_id
