"""Calls the providers of a task's parameters, before an attempt, and ends them after it, the last first.

What a coroutine task needs is set up on the event loop. What a plain function needs is set up in its thread, and ends
there when the function has ended, so that a connection stays in one thread and is not closed under a function whose
run timed out. Asynchronous providers, and what these need, are on the event loop always.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, cast

from redsched.errors import InvalidInputError
from redsched.tasks.binding import in_process_pool
from redsched.tasks.provide import Need, Needs
from redsched.worker.runs import Run
from redsched.worker.tracebacks import log_error

__all__ = ["Provided"]


class Provided:
    """The parameters of one attempt that are provided.

    Raises:
        InvalidInputError: the task runs in a process pool.
    """

    def __init__(self, run: Run, needs: Needs) -> None:
        assert run.task is not None
        if run.loop.worker.executors.is_process_pool(run.job.options.executor):
            raise in_process_pool(run.task.name, needs)
        self._run = run
        self._needs = needs
        self._values: list[Any] = [None] * len(needs.needs)
        self._open: list[tuple[Need, Any]] = []
        """The generators that have yielded, on the event loop."""
        everything = range(len(needs.needs))
        self._on_loop = [i for i in everything if run.task.is_async or i in needs.on_loop]
        self._in_thread = [i for i in everything if i not in self._on_loop]

    async def call(self, run: Run) -> Any:
        """Set up what the task of the run needs, and call it."""
        task = run.task
        assert task is not None
        for index in self._on_loop:
            await self._set_up(index)
        function = task.function
        if self._in_thread:

            def call(*args: Any, **kwargs: Any) -> Any:
                return self._call_in_thread(function, args, kwargs)
        else:

            def call(*args: Any, **kwargs: Any) -> Any:
                merged, by_name = self._arranged(args, kwargs)
                return function(*merged, **by_name)

        run.task = dataclasses.replace(task, function=call)
        try:
            return await run.loop.worker.executors.call(run)
        finally:
            run.task = task

    def _arranged(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        values = {name: self._values[index] for name, index in self._needs.parameters.items()}
        return self._needs.arrange(args, kwargs, values)

    def _arguments(self, need: Need) -> dict[str, Any]:
        return {name: self._values[index] for name, index in need.arguments.items()}

    async def _set_up(self, index: int) -> None:
        need = self._needs.needs[index]
        if need.kind == "service":
            self._values[index] = self._service(need)
            return
        made = need.function(**self._arguments(need))
        if need.kind == "coroutine":
            made = await made
        elif need.kind == "async_generator":
            try:
                value = await anext(made)
            except StopAsyncIteration:
                raise _yields_nothing(need) from None
            self._open.append((need, made))
            made = value
        elif need.kind == "generator":
            made = _begin(need, made, self._open)
        self._values[index] = made

    def _service(self, need: Need) -> Any:
        services = self._run.loop.worker.registry.services()
        found = None if services is None else services.get_service(cast("type[Any]", need.function))
        if found is None:
            why = "this scheduler has no service_provider" if services is None else f"{services!r} has none"
            raise InvalidInputError(f"no instance of {need.function.__qualname__} can be provided: {why}", field="task")
        return found

    def _call_in_thread(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        opened: list[tuple[Need, Any]] = []
        try:
            for index in self._in_thread:
                need = self._needs.needs[index]
                made = need.function(**self._arguments(need))
                self._values[index] = _begin(need, made, opened) if need.kind == "generator" else made
            merged, by_name = self._arranged(args, kwargs)
            result = function(*merged, **by_name)
            if opened and hasattr(result, "__await__"):
                getattr(result, "close", bool)()
                raise TypeError(
                    "the task is a plain function that returned a coroutine: what was provided to it in its thread "
                    "ends before that runs. Make the task a coroutine function."
                )
        except BaseException as error:
            self._end_in_thread(opened, error)
            raise
        self._end_in_thread(opened, None)
        return result

    def _end_in_thread(self, opened: list[tuple[Need, Any]], error: BaseException | None) -> None:
        end = Ending(self._run, error)
        for need, generator in reversed(opened):
            end.step(need, generator)
        end.finish()

    async def close(self, error: BaseException | None) -> None:
        """End what is on the event loop.

        Args:
            error: what the attempt raised. It stays what the attempt failed with, whatever a provider raises now.

        Raises:
            BaseException: what the first provider raised, after an attempt that succeeded.
        """
        end = Ending(self._run, error)
        while self._open:
            need, generator = self._open.pop()
            if need.kind == "generator":
                end.step(need, generator)
            else:
                await end.step_async(need, generator)
        end.finish()


class Ending:
    """The end of the providers of one attempt: each sees the attempt's error, or the first that a provider raised."""

    def __init__(self, run: Run, error: BaseException | None) -> None:
        self._run = run
        self._given = error
        self._error = error
        self._traceback = None if error is None else error.__traceback__

    def step(self, need: Need, generator: Generator[Any]) -> None:
        """End one generator."""
        try:
            if self._error is None:
                next(generator)
            else:
                generator.throw(self._error)
        except StopIteration:
            return
        except BaseException as raised:
            self._raised(need, raised)
            return
        generator.close()
        self._raised(need, _yields_twice(need))

    async def step_async(self, need: Need, generator: AsyncGenerator[Any]) -> None:
        """End one asynchronous generator."""
        try:
            if self._error is None:
                await anext(generator)
            else:
                await generator.athrow(self._error)
        except StopAsyncIteration:
            return
        except BaseException as raised:
            self._raised(need, raised)
            return
        await generator.aclose()
        self._raised(need, _yields_twice(need))

    def _raised(self, need: Need, raised: BaseException) -> None:
        if self._error is None:
            self._error = raised
        elif raised is not self._error and raised.__cause__ is not self._error:
            fields = self._run.log_fields()
            message = "the provider %s raised at the end of run %s"
            log_error(raised, message, need.name, self._run.id, level=logging.WARNING, extra=fields)

    def finish(self) -> None:
        """Raise what a provider raised after an attempt that succeeded; else put its error's traceback right."""
        if self._given is not None:
            self._given.__traceback__ = self._traceback
        elif self._error is not None:
            raise self._error


def _begin(need: Need, generator: Generator[Any], opened: list[tuple[Need, Any]]) -> Any:
    try:
        value = next(generator)
    except StopIteration:
        raise _yields_nothing(need) from None
    opened.append((need, generator))
    return value


def _yields_nothing(need: Need) -> RuntimeError:
    return RuntimeError(f"the provider {need.name} ended without a yield; it must yield the value once")


def _yields_twice(need: Need) -> RuntimeError:
    return RuntimeError(f"the provider {need.name} went on to a second yield; it must yield the value once")
