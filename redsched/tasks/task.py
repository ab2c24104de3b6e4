"""`Task`: a function with a name, and what is known of its parameters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redsched.tasks.provide import Needs, needs_of

__all__ = ["Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """A function with a name."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    is_local: bool = False
    """Whether it exists only in this process (a closure, a lambda, a method of an instance that is not bound)."""
    owner: type[Any] | None = None
    """For a method: its class. It is called on the bound instance of that class."""
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Default options of its jobs."""

    shapes: set[tuple[int, frozenset[str]]] = field(
        default_factory=set[tuple[int, frozenset[str]]], repr=False, compare=False
    )
    """What numbers of arguments, with which keywords, `check_task` found that it takes: it asks once for each."""
    needs: list[Needs | None] = field(default_factory=list["Needs | None"], repr=False, compare=False)
    """What its parameters need, once `provided` has found it."""

    def provided(self, *, is_method: bool | None = None) -> Needs | None:
        """What its parameters need; None if no parameter is provided. It is found once.

        Args:
            is_method: whether the function gets its instance before the arguments; None = if the task has an owner.

        Raises:
            InvalidInputError: a parameter cannot be provided.
        """
        if not self.needs:
            is_method = self.owner is not None if is_method is None else is_method
            self.needs.append(needs_of(self.function, is_method=is_method)[0])
        return self.needs[0]
