"""The jobs of the scenarios that only redsched runs; each ends with one effect in the ledger."""

import asyncio

from burn import burn
from common import effect

import redsched


async def noop(number):
    effect(number)


async def wait(number, seconds):
    await asyncio.sleep(seconds)
    effect(number)


async def blob(number, data):
    effect(number)


def cpu(number):
    burn()
    effect(number)


async def tick(number, first_ms):
    """A fire of a periodic job: its number in the ledger is that of the fire and of the job."""
    due = redsched.current_run().context.fire_time
    effect(round(due.timestamp() - first_ms / 1000) * 10_000 + number)


TASKS = {"noop": noop, "wait": wait, "blob": blob, "cpu": cpu, "tick": tick}


def arguments(name, number, parameter):
    """What a job of that task gets; the parameter is the seconds to wait, or the bytes of a blob."""
    if name == "wait":
        return [number, float(parameter)]
    if name == "blob":
        return [number, b"x" * int(parameter)]
    return [number]
