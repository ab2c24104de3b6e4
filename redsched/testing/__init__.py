"""The testing kit: a real server, time that you move, and waiting for events instead of sleeping.

The names are imported when they are first used: pytest loads `redsched.testing.pytest_plugin` in every test run of
users that have redsched installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redsched.testing.clusters import ClusterServers, SentinelServers
    from redsched.testing.containers import ContainerServer
    from redsched.testing.fleet import Fleet, FleetError, serve
    from redsched.testing.kits import Kit, fresh_prefix, kit, remove_prefix, server
    from redsched.testing.ledger import Ledger
    from redsched.testing.proxy import FaultProxy
    from redsched.testing.servers import LocalServer, ValkeyServer

__all__ = [
    "ClusterServers",
    "ContainerServer",
    "FaultProxy",
    "Fleet",
    "FleetError",
    "Kit",
    "Ledger",
    "LocalServer",
    "SentinelServers",
    "ValkeyServer",
    "fresh_prefix",
    "kit",
    "remove_prefix",
    "serve",
    "server",
]

_MODULES = {
    "clusters": ("ClusterServers", "SentinelServers"),
    "containers": ("ContainerServer",),
    "fleet": ("Fleet", "FleetError", "serve"),
    "kits": ("Kit", "fresh_prefix", "kit", "remove_prefix", "server"),
    "ledger": ("Ledger",),
    "proxy": ("FaultProxy",),
    "servers": ("LocalServer", "ValkeyServer"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"redsched.testing.{_MODULE_OF[name]}"), name)
