"""A module that the service under attack names in `task_packages`: one task, and much that is none."""

from __future__ import annotations

from typing import Any

from redsched import schedule_task

crimes: list[str] = []


@schedule_task(name="tests.security.named.innocent")
async def innocent() -> None:
    """The only task here."""


def unregistered() -> None:
    """No task, though its module is named."""
    crimes.append("named.unregistered")


def _private() -> None:
    crimes.append("named._private")


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        crimes.append(f"named.__getattr__ of {name}")
    raise AttributeError(name)
