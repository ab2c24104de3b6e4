"""The testing kit: a real server, time that you move, and waiting for events instead of sleeping.

The names are imported when they are first used: pytest loads `redsched.testing.pytest_plugin` in every test run of
users that have redsched installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redsched.testing.kits import Kit, fresh_prefix, kit, server

__all__ = ["Kit", "fresh_prefix", "kit", "server"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("redsched.testing.kits"), name)
