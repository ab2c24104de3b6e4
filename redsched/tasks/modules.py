"""The modules that an application names as the home of its tasks (`task_packages`), imported when a worker starts.

A name from Redis never leads to an import: what can run is known before the first job is claimed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from redsched.errors import InvalidConfigError

__all__ = ["import_task_modules"]

log = logging.getLogger("redsched")


def import_task_modules(names: Iterable[str]) -> None:
    """Import each module, and all modules of each package. Their `@schedule_task` functions register themselves.

    A module that raises is logged, and the others are imported all the same: one broken module must not keep a service
    from starting. Modules whose names begin with an underscore, and folders without `__init__.py`, are left out.

    Raises:
        InvalidConfigError: there is no module of that name, or it is a folder without `__init__.py`.
    """
    for name in names:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is None:
            raise InvalidConfigError(
                f"task_packages names {name!r}, and no such module can be found on sys.path", field="task_packages"
            )
        if spec.origin is None and spec.submodule_search_locations is not None:
            raise InvalidConfigError(
                f"task_packages names {name!r}, a folder without __init__.py: name its modules, or add that file",
                field="task_packages",
            )
        _import_all(name)


def _import_all(name: str) -> None:
    module = _import(name)
    path = vars(module).get("__path__", ()) if module else ()
    for found in pkgutil.iter_modules(path, f"{name}."):
        if not found.name.rpartition(".")[2].startswith("_"):
            _import_all(found.name)


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, and may exit
        from redsched.worker.tracebacks import log_error

        text = "the module %s of task_packages cannot be imported: its tasks stay unknown to this worker"
        log_error(error, text, name, to=log)
        return None
