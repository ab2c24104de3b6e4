"""The tasks of the recorded fixture. Their names and what they take must stay: records name them."""

from __future__ import annotations

from typing import Any

ran: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []


async def effect(*args: Any, **kwargs: Any) -> str:
    """Leaves a trace."""
    ran.append((str(args[0]) if args else "", args, kwargs))
    return "done"


async def fails(*args: Any) -> None:
    """Fails each time."""
    raise ValueError("of no use")
