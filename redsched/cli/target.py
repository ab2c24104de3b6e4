"""Resolves `module:attribute` to the scheduler that `redsched worker` serves."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from redsched import BackgroundTaskScheduler
from redsched.errors import InvalidConfigError, RedschedError

__all__ = ["load"]


async def load(target: str) -> BackgroundTaskScheduler:
    """The scheduler that a target names: an object in a module, or the result of a function or coroutine function.

    The current folder is searched first, as with `python -m`.

    Raises:
        InvalidConfigError: the scheduler does not exist; the message says what was found instead.
    """
    path, separator, attribute = target.partition(":")
    if not separator or not path or not attribute:
        raise _wrong(target, "it must be module:attribute, for example shop.jobs:scheduler")
    module = _import(target, path)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise _wrong(target, f"{path} has no {attribute!r}; {_schedulers_of(module)}")
        found = getattr(found, name)
    if isinstance(found, BackgroundTaskScheduler):
        return found
    if isinstance(found, type) or not callable(found):
        kind = "a class" if isinstance(found, type) else f"of type {type(found).__qualname__}"
        raise _wrong(
            target, f"{attribute} is {kind}; it must be a BackgroundTaskScheduler or a function that returns one"
        )
    try:
        made = found()
        if inspect.isawaitable(made):
            made = await made
    except RedschedError:
        raise
    except Exception as error:
        raise _failed(target, f"calling {attribute}() raised {type(error).__name__}: {error}", error) from None
    if not isinstance(made, BackgroundTaskScheduler):
        raise _wrong(target, f"{attribute}() returned {type(made).__qualname__}; it must return a scheduler")
    return made


def _import(target: str, path: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(path)
    except RedschedError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(f"{error.name}.")):
            hint = "is it spelled as in an import statement?" if "/" in path or path.endswith(".py") else ""
            hint = hint or f"run this in the folder that contains it (now: {here}), or set PYTHONPATH"
            raise _wrong(target, f"module {error.name!r} does not exist; {hint}") from None
        raise _failed(target, f"importing {path} raised {type(error).__name__}: {error}", error) from None
    except Exception as error:
        raise _failed(target, f"importing {path} raised {type(error).__name__}: {error}", error) from None


def _schedulers_of(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, BackgroundTaskScheduler))
    return f"its schedulers are: {', '.join(names)}" if names else "it has no scheduler as an attribute"


def _wrong(target: str, why: str) -> InvalidConfigError:
    return InvalidConfigError(f"target {target!r}: {why}", field="target")


def _failed(target: str, why: str, error: Exception) -> InvalidConfigError:
    """The application's own code raised: the message includes its traceback, without redsched's frames."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, importlib.__file__):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return InvalidConfigError(f"target {target!r}: {why}\n\n{text.rstrip()}", field="target")
