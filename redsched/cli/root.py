"""The root of the command line: its global options, its commands, and one place where errors become messages."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from redsched import RedschedError, __version__
from redsched.chaos import cli as chaos
from redsched.cli import doctor, events, jobs, output, upcoming, worker, workers
from redsched.cli.exits import ExitCode, exit_code_of
from redsched.cli.session import DEFAULT_PREFIX, DEFAULT_URL, Place
from redsched.demo import cli as demo

__all__ = ["build"]


class _Root(TyperGroup):
    """The group of all commands. What redsched raises ends as one message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command."""
        try:
            return super().invoke(ctx)
        except RedschedError as error:
            output.say(f"redsched: {error}")
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
            help="Where Redis is: redis://, rediss://, unix:///path/redis.sock, embedded:///folder, "
            "redis+sentinel://host,host/service or redis+cluster://host,host. "
            "Put a password into the environment variable: others can read a command line.",
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
            help="The number of shards. It is read from Redis; another one than is stored there is refused.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run the workers of redsched, and look at, change and follow its jobs."""
    del version
    ctx.obj = Place(url, prefix, shards, _from_command_line(ctx, "url", url), _from_command_line(ctx, "prefix", prefix))


def _from_command_line(ctx: typer.Context, name: str, value: str) -> str | None:
    source = ctx.get_parameter_source(name)
    return value if source is not None and source.name == "COMMANDLINE" else None


def _exit_codes() -> str:
    # One paragraph a line: typer joins the lines of a paragraph.
    return "\n\n".join(["Exit codes:", *(f"{code.value}  {code.meaning}" for code in ExitCode)])


def build() -> typer.Typer:
    """The command line, complete."""
    app = typer.Typer(
        cls=_Root,
        no_args_is_help=True,
        rich_markup_mode="rich",
        # A crash of ours is told by an ordinary traceback: the values of locals may hold a password.
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        epilog=_exit_codes(),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command("worker")(worker.worker)
    app.add_typer(jobs.app, name="jobs")
    app.command("events")(events.events)
    app.command("next")(upcoming.upcoming)
    app.command("workers")(workers.workers)
    app.command("doctor")(doctor.doctor)
    demo.register(app)
    chaos.register(app)
    return app
