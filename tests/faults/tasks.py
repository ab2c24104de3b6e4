"""The tasks of the fault tests: each tells the ledger what it does, one O_APPEND write at a time."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import redsched

LEDGER: list[int] = []


def open_ledger(path: Path | str) -> None:
    """Let the tasks of this process write there."""
    LEDGER[:] = [os.open(path, os.O_WRONLY | os.O_APPEND)]


def note(word: str) -> None:
    """One line, whole or not at all."""
    run = redsched.current_run().context
    fire_ms = round(run.fire_time.timestamp() * 1000)
    line = f"{run.job_id}\t{fire_ms}\t{run.attempt}\t{run.fencing_token}\t{os.getpid()}\t{word}\n"
    os.write(LEDGER[0], line.encode())


async def effect() -> None:
    """Done at once."""
    note("done")


async def steady() -> None:
    """Takes a twentieth of a second, so that a kill finds many of them under way."""
    await asyncio.sleep(0.05)
    note("done")


async def slow(seconds: float) -> None:
    """Takes a while, and tells when it starts, ends, or is cancelled."""
    note("started")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    note("done")


async def deadly() -> None:
    """Kills its worker."""
    note("started")
    os._exit(9)


async def hog() -> None:
    """Wants more memory than its process may have."""
    note("started")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, before[1]))
    try:
        kept = [bytearray(10_000_000) for _ in range(1000)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    note(f"kept {len(kept)}")


TASKS = (effect, steady, slow, deadly, hog)
