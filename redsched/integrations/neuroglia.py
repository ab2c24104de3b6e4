"""neuroglia-python: the scheduler in its container, started and stopped with its host.

    import redsched.integrations.neuroglia

    builder = WebApplicationBuilder()
    builder.services.add_background_task_scheduler(
        redis_url="redis://localhost:6379", job_store_prefix="mario_pizzeria"
    )

Importing this module gives `ServiceCollection` that method. The scheduler is a singleton of the container, whose
services are where the instances come from when a method runs as a task: in any process, each run in a separate scope.
"""

# No `from __future__ import annotations`: the container reads the annotations of what it calls.

import asyncio
import copy
import importlib.util
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any, TypeVar

import redsched
from redsched import BackgroundTaskScheduler, InvalidConfigError, SchedulerStateError, current_scheduler
from redsched.tasks.class_based import dependencies, module_name
from redsched.tasks.registry import is_coroutine_function

try:
    from neuroglia.dependency_injection import ServiceCollection, ServiceDescriptor
    from neuroglia.hosting.abstractions import HostApplicationLifetime, HostedService
except ImportError as _missing:
    raise ImportError(
        'redsched.integrations.neuroglia needs neuroglia-python: pip install "redsched[neuroglia]"', name=_missing.name
    ) from _missing

__all__ = ["Container", "SchedulerService", "add_background_task_scheduler", "alias", "get_service", "install"]

T = TypeVar("T")


class Container:
    """The scheduler's `service_provider`: a container of neuroglia, with a scope for each run.

    Public methods of the classes that the application registered may run as tasks; with `task_services`, of those
    only. Singletons are what they are; a scoped or transient service is made for the run, and disposed of after it.
    """

    def __init__(
        self, root: Any, services: ServiceCollection, task_services: Sequence[type[Any]] | None = None
    ) -> None:
        self._root = root
        self._services = services
        self._only = None if task_services is None else frozenset(task_services)
        self._known: dict[type[Any], type[Any]] = {}
        self._read = 0
        self._scope: ContextVar[Any] = ContextVar("redsched_neuroglia_scope", default=root)

    def get_service(self, type_: type[Any]) -> Any:
        """The instance of this class: in a run of the run's scope, else of the container."""
        return self._scope.get().get_service(type_)

    def find_class(self, path: str) -> type[Any] | None:
        """The registered class of that path, `module.Class`."""
        for kind in self._kinds():
            if f"{module_name(kind.__module__)}.{kind.__qualname__}" == path:
                return kind
        return None

    def contains(self, kind: type[Any]) -> bool:
        """Whether the application registered this class."""
        return kind in self._kinds()

    def method(self, kind: type[Any], function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, on an instance of a new scope at each call."""
        if is_coroutine_function(function):

            async def in_scope(*args: Any, **kwargs: Any) -> Any:
                async with self._scope_of_run() as scope:
                    return await function(self._instance(kind, scope), *args, **kwargs)

            return in_scope

        def in_scope_and_thread(*args: Any, **kwargs: Any) -> Any:
            with self._scope_of_thread() as scope:
                return function(self._instance(kind, scope), *args, **kwargs)

        return in_scope_and_thread

    @asynccontextmanager
    async def _scope_of_run(self) -> AsyncGenerator[Any]:
        async with self._root.create_async_scope() as scope:
            token = self._scope.set(scope)
            try:
                yield scope
            finally:
                self._scope.reset(token)

    @contextmanager
    def _scope_of_thread(self) -> Generator[Any]:
        scope = self._root.create_scope()
        token = self._scope.set(scope)
        try:
            yield scope
        finally:
            self._scope.reset(token)
            scope.dispose()

    def _instance(self, kind: type[Any], scope: Any) -> Any:
        service_type = self._kinds().get(kind)
        if service_type is None:
            needs = dependencies(kind, scope)
            if needs is None:
                raise SchedulerStateError(f"{kind.__qualname__} needs services that the container does not have")
            return kind(**needs)
        instance = scope.get_service(service_type)
        if type(instance) is not kind:  # several classes are registered for one service type
            instance = next((other for other in scope.get_services(service_type) if type(other) is kind), None)
        if instance is None:
            raise SchedulerStateError(f"the container gave no {kind.__qualname__} for {service_type.__qualname__}")
        return instance

    def _kinds(self) -> dict[type[Any], type[Any]]:
        """Class -> the service type for which it is registered."""
        if self._read != len(self._services):  # services may be added until the first run, and after
            self._read = len(self._services)
            for descriptor in list(self._services):
                for kind in (descriptor.get_implementation_type(), descriptor.service_type):
                    if isinstance(kind, type) and isinstance(descriptor.service_type, type) and self._may_run(kind):
                        self._known.setdefault(kind, descriptor.service_type)
        return self._known

    def _may_run(self, kind: type[Any]) -> bool:
        if self._only is not None:
            return kind in self._only
        return kind.__module__.partition(".")[0] not in ("neuroglia", "redsched", "builtins")


class SchedulerService(HostedService):
    """Starts and stops the scheduler with the host. However often the host asks, it is done once."""

    def __init__(self, scheduler: BackgroundTaskScheduler, *, worker: bool = True) -> None:
        self.scheduler = scheduler
        self._worker = worker
        self._changing = asyncio.Lock()

    async def start_async(self) -> None:
        """Start it, unless it runs."""
        async with self._changing:
            if not self.scheduler.running:
                await self.scheduler.start(worker=self._worker)

    async def stop_async(self) -> None:
        """Let runs finish for the scheduler's `shutdown_grace`, give the rest back, and disconnect."""
        async with self._changing:
            await self.scheduler.shutdown()


class _Handlers(list[Any]):
    """One host's own handlers, after those of neuroglia's list, which all hosts of a process share."""

    def __iter__(self) -> Iterator[Any]:
        yield from HostApplicationLifetime.on_application_started
        yield from super().__iter__()


class _Lifetime:
    """Makes the host's lifetime, as it was registered, so that it starts the scheduler.

    The host of `builder.build()` stops its hosted services with the server, but starts none of them.
    """

    def __init__(self, original: ServiceDescriptor) -> None:
        self._original = original

    def __call__(self, provider: Any) -> HostApplicationLifetime:
        original = self._original
        made: Any = original.singleton
        if made is None and original.implementation_factory is not None:
            made = original.implementation_factory(provider)
        lifetime: HostApplicationLifetime = made or (original.implementation_type or HostApplicationLifetime)()
        known = vars(lifetime).get("on_application_started", ())
        handlers = _Handlers(() if isinstance(known, _Handlers) else known)
        handlers.append(provider.get_required_service(SchedulerService).start_async)
        lifetime.on_application_started = handlers
        return lifetime


def _hosted(provider: Any) -> SchedulerService:
    return provider.get_required_service(SchedulerService)


def add_background_task_scheduler(
    services: ServiceCollection,
    redis_url: str = "redis://localhost:6379",
    job_store_prefix: str = "redsched",
    *,
    worker: bool = True,
    task_services: Sequence[type[Any]] | None = None,
    **settings: Any,
) -> ServiceCollection:
    """Register the scheduler as a singleton, which starts and stops with the host. A second call replaces the first.

    The same as `services.add_background_task_scheduler(…)`, with a type that a type checker knows.

    Args:
        services: the builder's.
        worker: False = this host only schedules; its jobs are run by others.
        task_services: the registered classes whose public methods may run as tasks; None = all but neuroglia's own.
        settings: further arguments of `BackgroundTaskScheduler`.

    Raises:
        InvalidInputError: a setting is wrong; the message names it.
    """
    if "service_provider" in settings:
        raise InvalidConfigError("service_provider is the container itself: leave it out", field="service_provider")
    BackgroundTaskScheduler(
        redis_url, job_store_prefix, **settings
    )  # says here, not when the host starts, what is wrong

    def make_scheduler(provider: Any) -> BackgroundTaskScheduler:
        container = Container(provider, services, task_services)
        return BackgroundTaskScheduler(redis_url, job_store_prefix, service_provider=container, **settings)

    def make_service(provider: Any) -> SchedulerService:
        return SchedulerService(provider.get_required_service(BackgroundTaskScheduler), worker=worker)

    own = {BackgroundTaskScheduler: make_scheduler, SchedulerService: make_service}
    services[:] = [descriptor for descriptor in services if descriptor.service_type not in own]
    for service_type, maker in own.items():
        services.add_singleton(service_type, implementation_factory=maker)
    if all(descriptor.implementation_factory is not _hosted for descriptor in services):
        services.add_singleton(HostedService, implementation_factory=_hosted)
        services.try_add_singleton(HostApplicationLifetime)
        for descriptor in services:
            if descriptor.service_type is HostApplicationLifetime:
                original = copy.copy(descriptor)
                descriptor.implementation_type = descriptor.singleton = None
                descriptor.implementation_factory = _Lifetime(original)
    return services


def install(*, alias: bool = False) -> None:
    """Give `ServiceCollection` its method `add_background_task_scheduler`. Importing this module does so.

    Args:
        alias: also make `neuroglia.scheduling` importable: see `alias`.
    """
    ServiceCollection.add_background_task_scheduler = add_background_task_scheduler  # pyright: ignore[reportAttributeAccessIssue]
    if alias:
        _alias()


def alias() -> None:
    """Make redsched's public names importable from `neuroglia.scheduling`, a module that neuroglia does not have.

    Raises:
        SchedulerStateError: this neuroglia already has such a module.

    >>> import redsched.integrations.neuroglia
    >>> redsched.integrations.neuroglia.alias()
    >>> from neuroglia.scheduling import BackgroundTaskScheduler
    """
    present = sys.modules.get("neuroglia.scheduling")
    if getattr(present, "__redsched__", False):
        return
    if present is not None or importlib.util.find_spec("neuroglia.scheduling") is not None:
        raise SchedulerStateError("this neuroglia already has a module neuroglia.scheduling: import from redsched")
    module = ModuleType("neuroglia.scheduling", redsched.__doc__)
    names = [name for name in redsched.__all__ if not name.startswith("_")]
    vars(module).update({name: getattr(redsched, name) for name in names}, __all__=names, __redsched__=True)
    sys.modules["neuroglia.scheduling"] = module
    sys.modules["neuroglia"].scheduling = module  # pyright: ignore[reportAttributeAccessIssue]


_alias = alias  # `install` has an argument of that name


def get_service(kind: type[T]) -> T:
    """A service of the container, for code that runs as a task or beside the only scheduler of the process.

    In a method of a service it is of the run's scope, which has its scoped services; elsewhere of the container.

    >>> import redsched
    >>> from redsched.integrations.neuroglia import get_service
    >>> class InventoryService:
    ...     async def low(self) -> list[str]: ...
    >>> @redsched.schedule_task(cron="0 8 * * *")
    ... async def daily_inventory_check() -> None:
    ...     print(await get_service(InventoryService).low())

    Raises:
        SchedulerStateError: nothing is registered for this class, or the scheduler is not the container's.
    """
    provider = current_scheduler().registry.provider
    if not isinstance(provider, Container):
        raise SchedulerStateError("the scheduler was not made by add_background_task_scheduler: it has no container")
    service = provider.get_service(kind)
    if service is None:
        raise SchedulerStateError(f"no service is registered for {kind.__qualname__}")
    return service


install()
