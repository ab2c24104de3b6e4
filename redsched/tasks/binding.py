"""Checks whether a task can be called with the arguments of a job: when the job is created, not when it runs.

For a plain function the answer comes from its code object, in less than a microsecond and without a cache that would
keep closures alive. `inspect` is used for everything else, and for the error message.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any

from redsched.errors import InvalidInputError
from redsched.tasks.class_based import class_of
from redsched.tasks.provide import Needs, UnreadError, needs_of, passed
from redsched.tasks.signatures import signature_of
from redsched.tasks.task import Task

__all__ = ["check_call", "check_place", "check_task", "in_process_pool"]

MAX_SHAPES = 100
"""How many are cached for a task."""
_NO_KEYWORDS: frozenset[str] = frozenset()
_VARARGS, _VARKEYWORDS = inspect.CO_VARARGS, inspect.CO_VARKEYWORDS


def check_task(task: Task, args: Sequence[Any], kwargs: Mapping[str, Any], *, early: bool = False) -> None:
    """Refuse arguments with which a task cannot be called. Parameters that are provided are none of them.

    Args:
        early: the task's module is being imported. If an annotation names something that may follow, it is not checked.

    Raises:
        InvalidInputError: an argument is missing, unknown, surplus or provided; or a parameter cannot be provided.
    """
    shape = (len(args), frozenset(kwargs) if kwargs else _NO_KEYWORDS)
    if shape in task.shapes:
        return
    is_method, function = task.owner is not None, task.function
    path = getattr(function, "__qualname__", "")
    if not is_method and "." in path.rpartition("<locals>.")[2]:
        # A method that was decorated while its class was being created: it gets an instance, unless it is static.
        is_method = class_of(function) is not None
        if not is_method and isinstance(function, FunctionType) and "self" in function.__code__.co_varnames[:1]:
            return  # its class cannot be found by name, so it is not known how it is called
    if early:
        try:
            needs, all_read = needs_of(function, is_method=is_method)
        except UnreadError:
            return
        if not all_read:
            return
    else:
        needs = task.provided(is_method=is_method)
    check_call(task.name, function, args, kwargs, is_method=is_method, needs=needs)
    if len(task.shapes) < MAX_SHAPES:
        task.shapes.add(shape)


def check_place(task: Task, executor: str) -> None:
    """Refuse the process pool for a task with parameters that are provided.

    Raises:
        InvalidInputError: it has some, and the executor is the process pool.
    """
    if executor == "processpool" and (needs := task.provided()) is not None:
        raise in_process_pool(task.name, needs)


def in_process_pool(name: str, needs: Needs) -> InvalidInputError:
    """The error of a task whose parameters are provided, in a process pool."""
    return InvalidInputError(
        f"the task {name} cannot run in a process pool: its parameter {next(iter(needs.parameters))!r} is provided, "
        "which only the worker's own process can do. Call the provider in the task, or use another executor.",
        field="executor",
    )


def check_call(
    name: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    is_method: bool = False,
    needs: Needs | None = None,
) -> None:
    """Refuse arguments that the function does not accept.

    Args:
        name: the task's name, for the message.
        is_method: whether the function gets its instance before the arguments.
        needs: the parameters that are provided, if any.

    Raises:
        InvalidInputError: an argument is missing, unknown or surplus. A function without a known signature (some of
            those written in C) accepts anything.
    """
    function = _called(function)
    if isinstance(function, MethodType):
        function, is_method = function.__func__, True
    is_plain = needs is None and isinstance(function, FunctionType) and "__signature__" not in function.__dict__
    if is_plain and _fits(function, int(is_method), len(args), kwargs):
        return
    try:
        signature = signature_of(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return
    if needs is not None:
        if not needs.parameters.keys().isdisjoint(kwargs):
            raise passed(kwargs, needs)
        signature = _without(signature, needs.parameters)
    try:
        _bind(signature, (None, *args) if is_method else args, kwargs)
    except TypeError as problem:
        raise _refused(name, signature, is_method, str(problem), kwargs) from None


def _bind(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    bound = signature.bind(*args, **kwargs).arguments
    for each in signature.parameters.values():
        # inspect of Python 3.13.0 takes f(a=1) for a call of `def f(a, /, **rest)`.
        if each.kind is each.POSITIONAL_ONLY and each.default is each.empty and each.name not in bound:
            raise TypeError(f"missing a required argument: {each.name!r}")


def _without(signature: inspect.Signature, names: Container[str]) -> inspect.Signature:
    """A signature without some parameters. A valid order stays valid: none that is left out is replaced."""
    left = [each for each in signature.parameters.values() if each.name not in names]
    return signature.replace(parameters=left)


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside redsched's own decorators, which pass their arguments on. Other decorators may add some."""
    while isinstance(function, FunctionType) and hasattr(function, "__wrapped__"):
        if not str(function.__globals__.get("__name__")).startswith("redsched."):
            break
        function = function.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
    return function


def _fits(function: FunctionType, skipped: int, count: int, kwargs: Mapping[str, Any]) -> bool:
    code = function.__code__
    flags, most = code.co_flags, code.co_argcount - skipped
    if most < 0:
        return bool(flags & _VARARGS)
    least = most - len(function.__defaults__ or ())
    if count > most and not flags & _VARARGS:
        return False
    if not kwargs and not code.co_kwonlyargcount:
        return count >= least
    names = code.co_varnames
    by_name = names[max(skipped + count, code.co_posonlyargcount) : code.co_argcount]
    only_named = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if not flags & _VARKEYWORDS and not all(key in by_name or key in only_named for key in kwargs):
        return False
    if any(key in names[skipped : skipped + count] for key in kwargs):
        return False  # passed twice, or a positional-only name: inspect says which
    required = names[skipped + count : skipped + least] if count < least else ()
    defaults = function.__kwdefaults__ or {}
    return all(key in kwargs and key in by_name for key in required) and all(
        key in kwargs or key in defaults for key in only_named
    )


def _refused(
    name: str, signature: inspect.Signature, is_method: bool, problem: str, kwargs: Mapping[str, Any]
) -> InvalidInputError:
    parameters = list(signature.parameters.values())[is_method:]
    shown = str(inspect.Signature([each.replace(annotation=each.empty) for each in parameters]))
    unknown = [key for key in kwargs if key not in signature.parameters and f"'{key}'" in problem]
    near = difflib.get_close_matches(unknown[0], [each.name for each in parameters], n=1) if unknown else []
    hint = f"; did you mean {near[0]}?" if near else ""
    field = "kwargs" if unknown or "multiple values" in problem else "args"
    return InvalidInputError(
        f"the task {name} takes {shown}, but cannot be called with the job's arguments: {problem}{hint}. Pass args=[…] "
        f"and kwargs={{…}}.",
        field=field,
    )
