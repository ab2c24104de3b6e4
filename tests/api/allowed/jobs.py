"""Tasks of a module that an application names."""

from os.path import basename
from typing import Any

from redsched import schedule_task

called: list[str] = []


@schedule_task
async def in_a_package(text: str) -> str:
    called.append(text)
    return basename(text)


async def undecorated() -> None:
    called.append("undecorated")


def _private() -> None:
    called.append("private")


def __getattr__(name: str) -> Any:
    called.append(name)
    raise AttributeError(name)
