"""The root of the command line: its global options, its commands, and the place where errors become messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from redsched import __version__
from redsched.cli.exits import ExitCode, exit_code_of
from redsched.cli.session import DEFAULT_PREFIX, DEFAULT_URL, Place
from redsched.errors import RedschedError

__all__ = ["build", "named"]


class _Root(TyperGroup):
    """The group of all commands. It turns errors of redsched into one message on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line. `--app` may appear anywhere: it selects the Redis for every command."""
        for at, word in enumerate(args):
            if word == "--":
                break
            if word == "--app" or word.startswith("--app="):
                count = 1 if "=" in word else 2
                args = [*args[at : at + count], *args[:at], *args[at + count :]]
                break
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Execute the command."""
        try:
            return super().invoke(ctx)
        except RedschedError as error:
            typer.echo(f"redsched: {error}", err=True)
            raise typer.Exit(exit_code_of(error)) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"redsched {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            envvar="REDSCHED_URL",
            metavar="URL",
            help="URL of Redis: redis://, rediss://, unix:///path/redis.sock, embedded:///folder, "
            "redis+sentinel://host,host/service or redis+cluster://host,host. "
            "Use the environment variable if it contains a password: other users can read a command line.",
        ),
    ] = DEFAULT_URL,
    prefix: Annotated[
        str,
        typer.Option("--prefix", envvar="REDSCHED_PREFIX", metavar="NAME", help="The job_store_prefix of the jobs."),
    ] = DEFAULT_PREFIX,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            envvar="REDSCHED_SHARDS",
            min=1,
            max=1024,
            help="The number of shards. Default: the stored number. A different number is refused.",
        ),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            envvar="REDSCHED_APP",
            metavar="MODULE:SCHEDULER",
            help="A BackgroundTaskScheduler of the application, such as shop.app:scheduler. Its URL, prefix and keys "
            "are used. May also follow the command.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run redsched workers, and inspect, change and follow jobs."""
    del version
    given = _from_command_line(ctx, "url", url), _from_command_line(ctx, "prefix", prefix)
    ctx.obj = Place(url, prefix, shards, *given, app)


def _from_command_line(ctx: typer.Context, name: str, value: str) -> str | None:
    source = ctx.get_parameter_source(name)
    return value if source is not None and source.name == "COMMANDLINE" else None


def _exit_codes() -> str:
    # One paragraph per line: typer joins the lines of a paragraph.
    return "\n\n".join(["Exit codes:", *(f"{code.value}  {code.meaning}" for code in ExitCode)])


def _worker(app: typer.Typer) -> None:
    from redsched.cli import worker

    app.command("worker")(worker.worker)


def _jobs(app: typer.Typer) -> None:
    from redsched.cli import jobs

    app.add_typer(jobs.app, name="jobs")


def _events(app: typer.Typer) -> None:
    from redsched.cli import events

    app.command("events")(events.events)


def _next(app: typer.Typer) -> None:
    from redsched.cli import upcoming

    app.command("next")(upcoming.upcoming)


def _workers(app: typer.Typer) -> None:
    from redsched.cli import workers

    app.command("workers")(workers.workers)


def _doctor(app: typer.Typer) -> None:
    from redsched.cli import doctor

    app.command("doctor")(doctor.doctor)


def _prune(app: typer.Typer) -> None:
    from redsched.cli import prune

    app.command("prune")(prune.prune)


def _demo(app: typer.Typer) -> None:
    from redsched.demo import cli

    cli.register(app)


def _chaos(app: typer.Typer) -> None:
    from redsched.chaos import cli

    cli.register(app)


COMMANDS: Mapping[str, Callable[[typer.Typer], None]] = {
    "worker": _worker, "jobs": _jobs, "events": _events, "next": _next, "workers": _workers, "doctor": _doctor,
    "prune": _prune, "demo": _demo, "chaos": _chaos,
}  # fmt: skip
"""Each command, and the function that adds it: its modules are imported only if it is named."""


def named(arguments: Sequence[str]) -> Collection[str]:
    """The commands that a command line may mean: those that occur as a word, or all if it asks for help first."""
    if [*arguments] == ["--version"]:
        return ("workers",)  # typer needs at least one
    found = [word for word in arguments if word in COMMANDS]
    before = arguments[: arguments.index(found[0])] if found else arguments
    if not found or {"-h", "--help"} & {*before} or "_REDSCHED_COMPLETE" in os.environ:
        return COMMANDS
    return found


def build(commands: Collection[str] = tuple(COMMANDS)) -> typer.Typer:
    """The command line, with some or all of its commands."""
    app = typer.Typer(
        cls=_Root,
        no_args_is_help=True,
        rich_markup_mode="rich",
        # A crash prints an ordinary traceback: the values of locals may contain a password.
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        epilog=_exit_codes(),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, add in COMMANDS.items():
        if name in commands:
            add(app)
    return app
