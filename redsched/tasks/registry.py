"""Tasks: the functions that a worker may run, and their names.

Only functions that the application registered can run (promise 9): a name from Redis is looked up, never imported.
A function is registered by `@schedule_task`, by `scheduler.register`, or by being scheduled in this process;
`scheduler.bind` registers the public methods of an instance.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import Any

from redsched.errors import InvalidInputError
from redsched.runtime import forks
from redsched.tasks.class_based import (
    BackgroundTask,
    ServiceContainer,
    ServiceProvider,
    class_of,
    defined,
    dependencies,
    module_name,
    public_method,
    public_methods,
    task_name_of,
)
from redsched.tasks.learning import learned
from redsched.tasks.modules import import_task_modules
from redsched.tasks.task import Task
from redsched.tasks.types import AnyTask

__all__ = ["Task", "TaskRegistry", "default_registry"]


def _unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def refuse_generator(result: Any) -> Any:
    """Return a task's result, but refuse a generator: then none of the task's code has run.

    Raises:
        TypeError: it is a generator.
    """
    if result is not None and (inspect.isgenerator(result) or inspect.isasyncgen(result)):
        raise TypeError("the task returned a generator, so its code did not run: consume it, and return a list")
    return result


def _refuse_generator_function(function: Callable[..., Any]) -> None:
    bare = _unwrap(function)
    for called in (bare, type(bare).__call__, getattr(bare, "execute", None)):
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            name = getattr(bare, "__qualname__", repr(bare))
            raise InvalidInputError(
                f"{name} is a generator function: called as a task, none of its code would run. Return a list, or "
                "write a task that iterates over it.",
                field="task",
            )


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling it returns a coroutine; sees through partials and callable objects."""
    function = _unwrap(function)
    called = type(function).__call__  # for a callable object
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


class TaskRegistry:
    """Tasks by name, instances by class. A registry may have a parent, which is asked second."""

    def __init__(self, parent: TaskRegistry | None = None) -> None:
        self._tasks: dict[str, Task] = {}
        self._names: dict[Callable[..., Any], str] = {}
        self._instances: dict[type[Any], Any] = {}
        self._open: set[type[Any]] = set()
        """Classes whose public methods are tasks: the bound ones, not those with only one registered method."""
        self._parent = parent
        self._in_class: set[str] = set()
        """Functions that were decorated while their class was being created: their class is not known yet."""
        self._locals = 0
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._uses: dict[str, int] = {}
        self._lock = threading.RLock()
        self.provider: ServiceProvider | None = None
        self.packages: tuple[str, ...] = ()
        """Modules and packages that `load` imports."""
        self._loaded: tuple[str, ...] = ()
        forks.register(self)

    def after_fork(self) -> None:
        """Forget functions that exist only in the parent: in the child they get new names. A thread of the parent may
        hold the lock.
        """
        self._lock = threading.RLock()
        self._uses = {}
        for task in [task for task in self._tasks.values() if task.is_local]:
            del self._tasks[task.name]
            self._names.pop(task.function, None)

    def register(
        self,
        function: AnyTask,
        *,
        name: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        owner_id: str | None = None,
    ) -> Task:
        """Register a function under the given name, or under `module.qualname`.

        Args:
            owner_id: id of the process, for functions that exist only in it; without it such a function is refused.

        Raises:
            InvalidInputError: it is not callable; another function has that name; or it is a closure or lambda, and
                no owner_id is given.
        """
        if name is None and (known := self._known(function)) and not known.is_local:
            return known
        with self._lock:  # several threads may schedule jobs at once
            return self._register(function, name, defaults or {}, owner_id)

    def _register(self, function: AnyTask, name: str | None, defaults: Mapping[str, Any], owner_id: str | None) -> Task:
        if not callable(function):
            raise InvalidInputError(
                f"a task must be a function, not {type(function).__qualname__} ({function!r})", field="task"
            )
        if name is None and (known := self._known(function)):
            if known.is_local:
                self._uses[known.name] = self._uses.get(known.name, 0) + 1
            return known
        _refuse_generator_function(function)
        describe = self._describe_class if _is_background_task(function) else self._describe
        task = describe(function, name, defaults, owner_id)
        present = self._tasks.get(task.name)
        if present is not None and present.function is not task.function and not _reloaded(present, task):
            raise InvalidInputError(
                f"two functions are named {task.name!r}: {present.function!r} and {function!r}. Pass name= for one.",
                field="task",
            )
        self._tasks[task.name] = task
        if task.is_local:
            self._uses[task.name] = 1
        elif task.owner is None and "." in getattr(task.function, "__qualname__", "").rpartition("<locals>.")[2]:
            self._in_class.add(task.name)
        if not isinstance(function, MethodType):
            self._names[function] = task.name
        if not task.is_local and present is None:
            learned()
        return task

    def alias(self, task: Task, names: Sequence[str]) -> None:
        """Let a task also run the jobs of its earlier names.

        Raises:
            InvalidInputError: an alias is the name of another task.
        """
        for name in names:
            other = self._tasks.get(name)
            if other is not None and other.function is not task.function and not _reloaded(other, task):
                raise InvalidInputError(f"the alias {name!r} of {task.name!r} is another task's name", field="aliases")
            self._tasks[name] = task
        self._aliases[task.name] = tuple(names)

    def aliases_of(self, name: str) -> tuple[str, ...]:
        """Earlier names of the task of that name."""
        return self._aliases.get(name) or (self._parent.aliases_of(name) if self._parent else ())

    def release(self, task: Task) -> None:
        """A one-shot job of a local task is over: release a closure that no other job uses, and what it references."""
        with self._lock:
            left = self._uses.get(task.name, 0) - 1
            self._uses[task.name] = left
            if left <= 0 and self._tasks.pop(task.name, None) is not None:
                del self._uses[task.name]
                self._names.pop(task.function, None)

    def bind(self, instance: Any, kind: type[Any] | None = None) -> None:
        """Let the public methods of this instance's class run as tasks, on this instance."""
        kind = kind or type(instance)
        self._instances[kind] = instance
        self._open.add(kind)
        learned()

    def load(self) -> None:
        """Import the modules of `packages`, once. Imports may be slow: call it in a thread.

        Raises:
            InvalidConfigError: a module does not exist.
        """
        if self._loaded != self.packages:
            import_task_modules(self.packages)
            self._loaded = self.packages

    @property
    def is_loaded(self) -> bool:
        """Whether `load` has nothing to do."""
        return self._loaded == self.packages

    def find(self, name: str) -> Task | None:
        """The task with that name, or None if this process may not run it."""
        task = self._tasks.get(name)
        if task is None or (self._in_class and task.name in self._in_class):
            task = self._look_up(name)
        if task is not None and task.owner is not None and not task.is_local:
            task.provided()  # by its own function: the bound one may be of any shape
            function = self._method(task.owner, task.function)
            return function and Task(task.name, function, task.is_async, False, None, task.defaults, needs=task.needs)
        return task

    def _look_up(self, name: str) -> Task | None:
        """The task with that name. The instance of a method may be known here, and not in the parent."""
        task = self._tasks.get(name)
        if task is not None and task.name in self._in_class:
            task = self._with_owner(task)
        if task is None and self._parent is not None:
            task = self._parent._look_up(name)
        return task or self._bound(name) or self._defined(name)

    def _with_owner(self, task: Task) -> Task:
        """The task with the class whose method it is, now that the class exists. A static method has none."""
        kind = class_of(task.function)
        if kind is None:
            return task
        with self._lock:
            owned = replace(task, owner=kind)
            self._tasks |= {name: owned for name, each in self._tasks.items() if each is task}
            self._in_class.discard(task.name)
        return owned

    def known(self, name: str) -> Task | None:
        """The task with that name, if this process already knows it: nothing is imported, no instance is created."""
        task = self._tasks.get(name)
        if task is None and self._parent is not None:
            task = self._parent.known(name)
        return task

    def names(self) -> list[str]:
        """The names of all tasks that `find` finds, except those that only a container has."""
        inherited = self._parent.names() if self._parent else []
        bound = (path for kind in self._open for path in public_methods(kind))
        return sorted({*inherited, *self._tasks, *defined, *bound})

    def tasks(self) -> Iterable[Task]:
        """The tasks registered here."""
        return self._tasks.values()

    def _known(self, function: Any) -> Task | None:
        try:
            name = self._names.get(function)
        except TypeError:  # an unhashable callable
            return None
        if name is not None:
            return self._tasks.get(name)
        return self._parent._known(function) if self._parent else None

    def _describe(
        self, function: Callable[..., Any], name: str | None, defaults: Mapping[str, Any], owner_id: str | None
    ) -> Task:
        is_async = is_coroutine_function(function)
        if isinstance(function, MethodType) and not isinstance(function.__self__, type):
            instance, plain = function.__self__, function.__func__
            kind: type[Any] = type(instance)
            contained = self._container(kind) is not None
            if not contained and self._instance(kind) is None and "<locals>" not in kind.__qualname__:
                self._instances[kind] = instance  # only this method is registered
            if (contained or self._instance(kind) is instance) and "<locals>" not in kind.__qualname__:
                path = f"{module_name(kind.__module__)}.{kind.__qualname__}.{function.__name__}"
                return Task(name or path, plain, is_async, False, kind, defaults)
        bare = _unwrap(function)
        qualname = getattr(bare, "__qualname__", type(bare).__qualname__)
        path = f"{module_name(getattr(bare, '__module__', None) or '__main__')}.{qualname}"
        local = (
            bare is not function
            or "<locals>" in qualname
            or "<lambda>" in qualname
            or (isinstance(function, MethodType) and not isinstance(function.__self__, type))
            or not (inspect.isfunction(function) or inspect.ismethod(function) or inspect.isbuiltin(function))
        )
        if not local or name is not None:
            return Task(name or path, function, is_async, False, None if local else class_of(function), defaults)
        if owner_id is None:
            raise InvalidInputError(
                f"{path} exists only in this process (it is a lambda, a closure, or a method of an instance that is "
                "not bound), so no other worker could run it. Name it with register(function, name=…), or use a "
                "function of a module.",
                field="task",
            )
        self._locals += 1
        return Task(f"local:{owner_id}:{path}#{self._locals}", function, is_async, True, None, defaults)

    def _describe_class(self, given: Any, name: str | None, defaults: Mapping[str, Any], owner_id: str | None) -> Task:
        """A class-based task, passed as the class or as an instance."""
        kind: type[BackgroundTask] = given if isinstance(given, type) else type(given)
        if inspect.isabstract(kind):
            raise InvalidInputError(f"{kind.__qualname__} has no execute method: it cannot be a task", field="task")
        name = name or task_name_of(kind)
        is_async = is_coroutine_function(kind.execute)
        own = given is not kind and self._container(kind) is None
        if own and self._instance(kind) is None:
            self._instances[kind] = given
        if "<locals>" in name or (own and self._instance(kind) is not given):
            # Only in this process: an instance other than the bound one, or a class that no other process can find.
            needs = dependencies(kind, self.services()) if given is kind else {}
            if needs is None:
                raise InvalidInputError(f"{name}: pass an instance; its constructor needs arguments", field="task")
            instance = kind(**needs) if given is kind else given
            return self._describe(instance.execute, None, defaults, owner_id)
        return Task(name, kind.execute, is_async, False, kind, defaults)

    def _method(self, kind: type[Any], function: Callable[..., Any]) -> Callable[..., Any] | None:
        """A function of a class, bound to the instance to use; None if there is no instance."""
        if (container := self._container(kind)) is not None:
            return container.method(kind, function)
        instance = self._instance(kind)
        if instance is not None:
            return MethodType(function, instance)
        if not issubclass(kind, BackgroundTask):
            return None
        if isinstance(self.provider, ServiceContainer):
            return self.provider.method(kind, function)
        needs = dependencies(kind, self.services())
        return None if needs is None else lambda *args, **kwargs: function(kind(**needs), *args, **kwargs)

    def _container(self, kind: type[Any]) -> ServiceContainer | None:
        """The container that provides an instance of this class for each run, unless one instance was bound."""
        container = self.provider if isinstance(self.provider, ServiceContainer) else None
        return container if container and kind not in self._instances and container.contains(kind) else None

    def services(self) -> ServiceProvider | None:
        """The provider of instances, of this registry or its parent."""
        return self.provider or (self._parent.services() if self._parent else None)

    def _defined(self, name: str) -> Task | None:
        kind = defined.get(name)
        return None if kind is None or inspect.isabstract(kind) else self.register(kind)

    def _instance(self, kind: type[Any]) -> Any:
        instance = self._instances.get(kind)
        if instance is None and self.provider is not None:
            instance = self.provider.get_service(kind)
        if instance is None and self._parent is not None:
            instance = self._parent._instance(kind)
        return instance

    def _bound(self, name: str) -> Task | None:
        """The public method with that path, of a class that was bound or is in the container."""
        owner, _, attribute = name.rpartition(".")
        if attribute.startswith("_"):
            return None
        kinds = list(self._open)
        if isinstance(self.provider, ServiceContainer):
            found = self.provider.find_class(owner)
            kinds += [] if found is None else [found]
        for kind in kinds:
            path = f"{module_name(kind.__module__)}.{kind.__qualname__}"
            if owner == path and "<locals>" not in path and (function := public_method(kind, attribute)):
                task = self._tasks[name] = Task(name, function, is_coroutine_function(function), False, kind)
                return task
        return None


def _is_background_task(given: Any) -> bool:
    return isinstance(given, BackgroundTask) or (isinstance(given, type) and issubclass(given, BackgroundTask))


def _reloaded(old: Task, new: Task) -> bool:
    """Whether two functions with one name are the same definition, imported twice (by a reload, or as __main__)."""
    a, b = getattr(old.function, "__code__", None), getattr(new.function, "__code__", None)
    return a is not None and b is not None and (a.co_filename, a.co_firstlineno) == (b.co_filename, b.co_firstlineno)


default_registry: TaskRegistry = TaskRegistry()
"""The registry of `@schedule_task`; the parent of the registries of all schedulers in the process."""
