"""The business services that the page leaves out: they write down what is asked of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Recorder:
    """Any coroutine method is there; each call is noted in `calls`, and answers what `answers` has for it."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        async def method(*args: Any) -> Any:
            self.calls.append((name, args))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method


def service_class(name: str) -> type[Recorder]:
    """A class of that name."""
    return type(name, (Recorder,), {})


class Container:
    """A dependency injection container: one instance for each class."""

    def __init__(self, *services: Any) -> None:
        self.services = {type(service): service for service in services}

    def get_service(self, kind: type[Any]) -> Any:
        """The instance of that class."""
        return self.services.get(kind)


def order(**fields: Any) -> SimpleNamespace:
    """Something with these attributes."""
    return SimpleNamespace(**fields)
