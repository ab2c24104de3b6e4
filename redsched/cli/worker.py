"""The options of `redsched worker`. Its work is done in `service.py`, and for several processes in `supervisor.py`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from redsched.cli import service, supervisor
from redsched.cli.service import Settings
from redsched.cli.session import Prefix, Url, place
from redsched.errors import InvalidConfigError

__all__ = ["worker"]


class LogFormat(StrEnum):
    """The format of the log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:SCHEDULER",
            show_default=False,
            help="A BackgroundTaskScheduler in a module, or a function that returns one. Default: the one of --app.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue", "-q", help="A queue to serve; repeatable, the preferred first. Default: the scheduler's."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Number of runs that each process executes at once."),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", "-p", min=1, help="Number of worker processes; one that dies is replaced.")
    ] = 1,
    grace: Annotated[
        float | None,
        typer.Option("--grace", min=0, metavar="SECONDS", help="Time that runs have to finish at a stop."),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option("--log-format", help="Format of the log.")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option("--log-level", help="Lowest level to log.")] = LogLevel.INFO,
    uvloop: Annotated[bool, typer.Option("--uvloop/--no-uvloop", help="Use uvloop if it is installed.")] = True,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=1,
            max=65535,
            help="Serve Prometheus metrics on this port; with --processes, each further process uses the next port.",
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option("--metrics-host", help="Address of the metrics port.")] = "127.0.0.1",
    url: Url = None,
    prefix: Prefix = None,
) -> None:
    """Claim and run the jobs of a scheduler until SIGTERM or Ctrl-C. A second signal gives all runs back immediately.

    The worker uses the scheduler's Redis, unless --url or --prefix is on the command line (REDSCHED_URL and
    REDSCHED_PREFIX do not count here). If Redis is away, the worker waits for it. The log goes to stderr.
    """
    where = place(ctx, url, prefix)
    target = target or where.app
    if target is None:
        raise InvalidConfigError("name the scheduler: redsched worker shop.app:scheduler", field="target")
    settings = Settings(
        target=target,
        url=where.url_given,
        prefix=where.prefix_given,
        queues=tuple(queue or ()),
        concurrency=concurrency,
        grace=grace,
        log_format="json" if log_format is LogFormat.JSON else "text",
        log_level=log_level.value,
        uvloop=uvloop,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
    )
    raise typer.Exit(service.run(settings) if processes == 1 else supervisor.run(settings, processes))
