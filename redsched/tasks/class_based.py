"""`BackgroundTask`: a task as a class instead of a function."""

from __future__ import annotations

import inspect
import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from redsched.tasks.learning import learned
from redsched.tasks.signatures import signature_of

__all__ = [
    "BackgroundTask",
    "ServiceContainer",
    "ServiceProvider",
    "class_of",
    "defined",
    "dependencies",
    "module_name",
    "public_method",
    "public_methods",
    "task_name_of",
]

defined: dict[str, type[BackgroundTask]] = {}
"""Every class-based task of this process, by its name."""


class ServiceProvider(Protocol):
    """Provides instances of classes (a dependency injection container)."""

    def get_service(self, type_: type[Any]) -> Any:
        """The instance of this class, or None."""
        ...


@runtime_checkable
class ServiceContainer(ServiceProvider, Protocol):
    """A provider that finds classes by name, and provides an instance for each run."""

    def find_class(self, path: str) -> type[Any] | None:
        """The class with that path (`module.Class`), if its public methods may run as tasks; else None."""
        ...

    def contains(self, kind: type[Any]) -> bool:
        """Whether methods of this class may run as tasks."""
        ...

    def method(self, kind: type[Any], function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function of a class so that it is called without an instance: each call gets a new one.

        The class is one that the container contains, or a `BackgroundTask`.
        """
        ...


def module_name(module: str) -> str:
    """A module's importable name; for `__main__`, the name under which another process would import it."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name).removesuffix(".__main__")
    path = getattr(main, "__file__", None)
    return PurePath(path).stem if path else "__main__"


class BackgroundTask(ABC):
    """A task with dependencies: the constructor receives them, `execute` receives the arguments of a run.

    Schedule the class (or an instance). The worker uses the instance that was bound or passed, or that the
    scheduler's `service_provider` returns. Otherwise it creates one for each run, and resolves the annotations of the
    constructor with the provider. Defining a class in a module registers it, as `@schedule_task` does.

    >>> import redsched
    >>> class SendReminder(redsched.BackgroundTask):
    ...     def __init__(self, greeting: str = "start preparing") -> None:
    ...         self.greeting = greeting
    ...     async def execute(self, order_id: str) -> None:
    ...         print(self.greeting, order_id)
    >>> async def remind(scheduler: redsched.BackgroundTaskScheduler) -> None:
    ...     await scheduler.schedule_delayed_task("reminder", SendReminder, delay_minutes=15, args=["order-1"])
    """

    task_name: ClassVar[str | None] = None
    """The task's name; None = `module.Class`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "<locals>" not in cls.__qualname__ or cls.task_name is not None:
            defined[task_name_of(cls)] = cls
            learned()

    @abstractmethod
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work: a coroutine function, or a plain function (which runs in a thread)."""

    if not TYPE_CHECKING:  # a type checker must look at `execute`, which declares the return type

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Call `execute`, so that an instance can be scheduled like a function."""
            return self.execute(*args, **kwargs)


def task_name_of(kind: type[BackgroundTask]) -> str:
    """The task name of the class."""
    return kind.__dict__.get("task_name") or f"{module_name(kind.__module__)}.{kind.__qualname__}"


def dependencies(kind: type[Any], provider: ServiceProvider | None) -> Mapping[str, Any] | None:
    """The constructor's arguments: for each parameter, the provider's instance of its annotation.

    None if a parameter without a default cannot be resolved.
    """
    found: dict[str, Any] = {}
    try:
        hints = typing.get_type_hints(kind.__init__)
    except Exception:  # an annotation may name something that is imported only for type checkers
        hints = {}
    for name, parameter in signature_of(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name)
        service = provider.get_service(hint) if provider is not None and isinstance(hint, type) else None
        if service is not None:
            found[name] = service
        elif parameter.default is parameter.empty:
            return None
    return found


def public_method(kind: type[Any], attribute: str) -> Callable[..., Any] | None:
    """A public method of a class, as a function; None if the class has no such method."""
    function = None if attribute.startswith("_") else inspect.getattr_static(kind, attribute, None)
    return function if inspect.isfunction(function) else None


def public_methods(kind: type[Any]) -> Iterator[str]:
    """The paths of a class's public methods; none for a class that no other process could find."""
    path = f"{module_name(kind.__module__)}.{kind.__qualname__}."
    if "<locals>" not in path:
        yield from (path + attribute for attribute in dir(kind) if public_method(kind, attribute))


def class_of(function: Callable[..., Any]) -> type[Any] | None:
    """The class whose method a function is, such as `Oven` for `Oven.bake`; None for any other function."""
    owner, _, attribute = getattr(function, "__qualname__", "").rpartition(".")
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in owner.split("."):
        found = getattr(found, part, None)
    is_method = isinstance(found, type) and inspect.getattr_static(found, attribute, None) is function
    return found if is_method else None
