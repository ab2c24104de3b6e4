"""`Provide`: parameters of a task that the worker passes, and what they need in turn. Pure: `worker.providing` calls.

The parameters of a function are read once for each task. They are read late, at its first job or its first run: an
annotation may name something that its module defines further down.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Annotated, Any, Literal, get_args, get_origin

from redsched.errors import InvalidInputError
from redsched.tasks.signatures import signature_of

__all__ = ["PROVIDED", "Need", "Needs", "Provide", "UnreadError", "needs_of"]

Kind = Literal["function", "coroutine", "generator", "async_generator", "service"]


class _Provided:
    """The default of a parameter that is provided, where type checkers must accept calls without it.

    >>> def get_oven() -> str:
    ...     return "the oven"
    >>> async def bake(order_id: str, oven: Annotated[str, Provide(get_oven)] = PROVIDED) -> None: ...
    """

    def __repr__(self) -> str:
        return "PROVIDED"


PROVIDED: Any = _Provided()
"""The default of a parameter that is provided, where type checkers must accept calls without it."""


class UnreadError(InvalidInputError):
    """An annotation names something that is not there, or not yet."""


class Provide:
    """Marks a parameter that the worker passes to a task, or to a provider: `Annotated[Session, Provide(get_session)]`.

    A provider is called once for each attempt that needs it, however many parameters name it. What a generator yields
    is passed; the rest of the generator runs after the attempt, and sees the exception of an attempt that failed. Jobs
    cannot pass such a parameter. See docs/guide/middleware.md.

    Args:
        provider: a function, a coroutine function, a generator function or an asynchronous generator function, a
            function with `@contextmanager` or `@asynccontextmanager`, or a class. Its parameters are provided as well,
            or have defaults. None = the instance of the annotated class that the scheduler's `service_provider` has.

    Raises:
        InvalidInputError: the provider cannot be called.

    >>> async def get_session() -> AsyncIterator[list[str]]:
    ...     session = ["begin"]
    ...     yield session
    ...     print(*session, "commit")
    >>> async def bake(order_id: str, session: Annotated[list[str], Provide(get_session)]) -> None:
    ...     session.append(order_id)
    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("bake", bake, args=["order-1"])
    ...         await handle.result(timeout=10)
    >>> asyncio.run(main())
    begin order-1 commit
    """

    __slots__ = ("provider",)

    def __init__(self, provider: Callable[..., Any] | None = None) -> None:
        if provider is not None and not callable(provider):
            raise InvalidInputError(f"Provide({provider!r}): a provider must be a function or a class", field="task")
        self.provider: Callable[..., Any] | None = provider

    def __repr__(self) -> str:
        return f"Provide({'' if self.provider is None else _name(self.provider)})"


@dataclass(frozen=True, slots=True)
class Need:
    """One provider that a task needs."""

    name: str
    kind: Kind
    function: Callable[..., Any]
    """What is called; for a service, its class."""
    arguments: Mapping[str, int]
    """Its parameters that are provided -> the index of their need."""


@dataclass(frozen=True, slots=True)
class Needs:
    """All that the parameters of one task need, in the order of setting up: each comes after those that it needs."""

    needs: tuple[Need, ...]
    parameters: Mapping[str, int]
    """The task's parameters that are provided -> the index of their need."""
    positional: tuple[str, ...]
    """The task's parameters that may be passed by position, without the instance of a method."""
    on_loop: frozenset[int]
    """For a task that runs in a thread: the needs that are set up on the event loop nevertheless."""

    def arrange(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Put a job's arguments and the provided values together.

        Raises:
            InvalidInputError: the job passes a parameter that is provided.
        """
        if not self.parameters.keys().isdisjoint(kwargs):
            raise passed(kwargs, self)
        given, left, by_name = list(args), dict(values), dict(kwargs)
        merged: list[Any] = []
        for name in self.positional:
            if name in left:
                merged.append(left.pop(name))
            elif given:
                merged.append(given.pop(0))
            else:
                break
        return merged + given, by_name | left


def passed(kwargs: Mapping[str, Any], needs: Needs) -> InvalidInputError:
    """The error of a job that passes a parameter that is provided."""
    name = next(name for name in kwargs if name in needs.parameters)
    by = needs.needs[needs.parameters[name]].name
    return InvalidInputError(
        f"the parameter {name!r} is provided by {by}; a job cannot pass it. Remove it from kwargs.", field="kwargs"
    )


def needs_of(function: Callable[..., Any], *, is_method: bool) -> tuple[Needs | None, bool]:
    """What a task's parameters need, None if nothing; and whether all annotations could be read.

    Args:
        is_method: whether the function gets its instance before the arguments.

    Raises:
        InvalidInputError: a parameter cannot be provided; the message names it.
    """
    found, all_read = _marked(function)
    if not found:
        return None, all_read
    made: dict[Any, int] = {}
    needs: list[Need] = []
    for name, (kind, _) in found.items():
        if kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise InvalidInputError(
                f"{_name(function)}: the parameter {name!r} cannot be provided: it is positional-only, or takes a "
                "variable number of arguments",
                field="task",
            )
    within = (function,)
    parameters = {name: _add(marker, hint, made, needs, within) for name, (_, (marker, hint)) in found.items()}
    of_signature = signature_of(inspect.unwrap(_bare(function))).parameters.values()
    positional = [each.name for each in of_signature if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    on_loop = {index for index, need in enumerate(needs) if need.kind not in ("function", "generator")}
    for index in range(len(needs) - 1, -1, -1):  # those that a need on the loop needs come before it
        if index in on_loop:
            on_loop.update(needs[index].arguments.values())
    return Needs(tuple(needs), parameters, tuple(positional[is_method:]), frozenset(on_loop)), all_read


def _add(
    marker: Provide, hint: Any, made: dict[Any, int], needs: list[Need], within: tuple[Callable[..., Any], ...]
) -> int:
    """Add what a marker needs, if it is not there, behind what that needs in turn. Returns its index."""
    provider = marker.provider
    if provider is None:
        if not isinstance(hint, type):
            raise InvalidInputError(
                f"{_name(within[-1])}: Provide() without a provider requires a class in Annotated, not {hint!r}",
                field="task",
            )
        key: Any = ("service", hint)
        if key not in made:
            needs.append(Need(f"the service_provider ({hint.__qualname__})", "service", hint, {}))
            made[key] = len(needs) - 1
        return made[key]
    if provider in within:
        path = " -> ".join(map(_name, (*within[within.index(provider) :], provider)))
        raise InvalidInputError(f"providers need each other: {path}", field="task")
    if provider in made:
        return made[provider]
    found, _ = _marked(provider)
    arguments = {name: _add(inner, of, made, needs, (*within, provider)) for name, (_, (inner, of)) in found.items()}
    for each in _parameters(provider):
        is_variable = each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if not is_variable and each.default is each.empty and each.name not in arguments:
            raise InvalidInputError(
                f"the provider {_name(provider)} has a parameter {each.name!r} that is neither provided nor has a "
                "default. Annotate it with Annotated[…, Provide(…)].",
                field="task",
            )
    kind, called = _kind(provider)
    needs.append(Need(_name(provider), kind, called, arguments))
    made[provider] = len(needs) - 1
    return made[provider]


def _kind(provider: Callable[..., Any]) -> tuple[Kind, Callable[..., Any]]:
    bare = _bare(provider)
    inner = getattr(bare, "__wrapped__", None)
    if inner is not None and getattr(bare, "__globals__", None) is vars(contextlib):
        provider = bare = inner  # of @contextmanager or @asynccontextmanager: the generator function inside
    for function in (bare, None if isinstance(bare, type) else type(bare).__call__):
        if inspect.isasyncgenfunction(function):
            return "async_generator", provider
        if inspect.isgeneratorfunction(function):
            return "generator", provider
        if inspect.iscoroutinefunction(function):
            return "coroutine", provider
    return "function", provider


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(signature_of(function).parameters.values())
    except (ValueError, TypeError):  # some functions written in C
        return []


def _marked(
    function: Callable[..., Any],
) -> tuple[dict[str, tuple[Any, tuple[Provide, Any]]], bool]:
    """The parameters that are marked with `Provide`: their kind, the marker and the annotated type; and whether all
    annotations could be read."""
    code = inspect.unwrap(_bare(function))
    if isinstance(code, type):
        code = code.__init__
    elif not isinstance(code, FunctionType | MethodType):
        code = type(code).__call__
    if isinstance(code, MethodType):
        code = code.__func__
    if not isinstance(code, FunctionType) or (getattr(code, "__annotate__", None) is None and not code.__annotations__):
        return {}, True
    found: dict[str, tuple[Any, tuple[Provide, Any]]] = {}
    all_read = True
    for each in signature_of(code).parameters.values():
        hint = each.annotation
        text = getattr(hint, "__forward_arg__", hint)  # from Python 3.14 on, what cannot be read is a ForwardRef
        if isinstance(text, str):
            try:
                hint = eval(text, code.__globals__, _closed_over(code))  # nosec B307  an annotation of the application, as typing reads it
            except Exception:  # it may name something that is imported only for type checkers, or defined further down
                if "Provide(" in text:
                    raise UnreadError(
                        f"{_name(function)}: the annotation of {each.name!r} cannot be read: {text}. What it names "
                        "must be in its module when the program runs.",
                        field="task",
                    ) from None
                all_read = False
                continue
        while type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        if get_origin(hint) is Annotated:
            marks = [mark for mark in get_args(hint)[1:] if isinstance(mark, Provide)]
            if len(marks) > 1:
                raise InvalidInputError(
                    f"{_name(function)}: the parameter {each.name!r} has two providers", field="task"
                )
            if marks:
                found[each.name] = (each.kind, (marks[0], get_args(hint)[0]))
    return found, all_read


def _closed_over(function: FunctionType) -> dict[str, Any]:
    """Return the variables of an enclosing function that a function uses."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    values: dict[str, Any] = {}
    for name, cell in cells:
        with contextlib.suppress(ValueError):  # not assigned yet
            values[name] = cell.cell_contents
    return values


def _bare(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _name(function: Callable[..., Any]) -> str:
    return getattr(_bare(function), "__qualname__", repr(function))
