"""The command `redsched chaos`."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from redsched import InvalidInputError, RedschedError, StoreAccessError
from redsched.chaos.cell import Outcome, run_fault
from redsched.chaos.faults import ALL, Fault
from redsched.chaos.given import Given, Refusal, look_at
from redsched.chaos.report import Report, headings, row
from redsched.cli.exits import ExitCode
from redsched.testing.fleet import FleetError
from redsched.testing.servers import find_server, version_of

__all__ = ["register"]

SHORT_JOBS = 1_500
SHORT_S = 4.0
LONG_S = 12.0
RATE = 1_500.0
"""Jobs a second: what four workers do on two cores without falling behind."""
SHOWN = 10
"""Violations of one fault that are printed."""


def register(app: typer.Typer) -> None:
    """Add the command `chaos`."""
    app.command("chaos")(chaos)


def chaos(
    seed: Annotated[
        int | None, typer.Option(help="Repeats a run, as far as the operating system allows; by default a new one.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=50, help=f"Jobs for each fault; by default 20,000, with --url {SHORT_JOBS:,}."),
    ] = None,
    short: Annotated[
        bool,
        typer.Option(
            "--short",
            help=f"All faults that need nothing special, {SHORT_JOBS:,} jobs each; recovery may take twice as long.",
        ),
    ] = False,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="NAME", help="Only this fault; may be repeated.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Tell which faults there are, and end.")] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help='A server program, or "embedded"; by default redis-server or valkey-server on PATH, else embedded.',
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Use this Redis, under a new prefix, and only for the faults that leave the server itself alone.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --url is used.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything there.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table there.")] = None,
) -> None:
    """Break a real server and real workers in every known way, and count jobs that were lost, doubled or early.

    Starts everything itself, on loopback, or uses the server of --url. Exit code 0 only if every promise was kept.
    """
    if url is not None and server is not None:
        raise typer.BadParameter("--server starts a server, and --url names one that is there", param_hint="--url")
    if list_:
        _print_list()
        return
    chosen = _chosen(fault, short=short, elsewhere=url is not None)
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    count = jobs or (SHORT_JOBS if short or url is not None else 20_000)
    command = " ".join(["redsched chaos", *_to_repeat(sys.argv[2:])])
    binary, version = _local(server) if url is None else _given(url)
    report = Report(command, seed, version, [])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave no process behind
    logging.getLogger("redsched").addHandler(logging.NullHandler())  # outages of Redis are expected here
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(f"{report.versions}; seed {seed}; {count:,} jobs for each of {len(chosen)} faults")
    if isinstance(binary, Given) and not (yes or _sure(binary)):
        typer.echo("nothing was done", err=True)
        raise typer.Exit(ExitCode.USAGE)
    unmade = False
    for kind in chosen:
        try:
            outcome = asyncio.run(
                run_fault(
                    kind,
                    seed=seed,
                    jobs=count,
                    rate=RATE,
                    shortest_s=SHORT_S if short or url is not None else LONG_S,
                    binary=binary,
                    slack=2.0 if short else 1.0,
                )
            )
        except (RedschedError, FleetError, OSError, RuntimeError, ExceptionGroup) as error:
            typer.echo(f"{kind.name} could not be made: {_told(error)}", err=True)
            unmade = True
            continue
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        report.outcomes.append(outcome)
        _tell(console, outcome)
        # After each fault: who interrupts a long run keeps what it found.
        if json_ is not None:
            json_.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
        if markdown is not None:
            markdown.write_text(report.as_markdown(), encoding="utf-8")
    _print_table(console, report)
    if any(outcome.violations for outcome in report.outcomes):
        raise typer.Exit(1)
    raise typer.Exit(3 if unmade else 0)


def _local(server: str | None) -> tuple[str, str]:
    """The program of the server, and its version."""
    try:
        binary = find_server(server)
    except FileNotFoundError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from None
    return binary, version_of(binary)


def _given(url: str) -> tuple[Given, str]:
    """The server that is there, and its version, if a run can be made on it."""
    given = Given(url)
    try:
        return given, asyncio.run(look_at(given))
    except InvalidInputError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from None
    except Refusal as why:
        typer.echo(f"no chaos run on {given.shown}: {why}", err=True)
        raise typer.Exit(ExitCode.UNHEALTHY) from None
    except StoreAccessError as error:
        typer.echo(f"no chaos run on {given.shown}: {error}", err=True)
        raise typer.Exit(ExitCode.REFUSED) from None
    except RedschedError as error:
        typer.echo(f"no chaos run on {given.shown}: {error}", err=True)
        raise typer.Exit(ExitCode.UNAVAILABLE) from None


def _sure(given: Given) -> bool:
    typer.echo(
        f"This loads {given.shown} with up to {RATE:,.0f} jobs a second, by four worker processes of this machine. "
        f"Every key is under the prefix {given.prefix}, and is removed after each fault. Nothing is done to the "
        "server itself, nor under other prefixes.",
        err=True,
    )
    try:
        return typer.confirm("Use this server?", err=True)
    except typer.Abort:  # no answer can come
        return False


def _chosen(names: list[str] | None, *, short: bool, elsewhere: bool) -> list[type[Fault]]:
    unknown = [name for name in names or () if name not in ALL]
    if unknown:
        raise typer.BadParameter(f"there is no fault {unknown[0]!r}; known: {', '.join(ALL)}", param_hint="--fault")
    if elsewhere and (own := [name for name in names or () if not ALL[name].elsewhere]):
        allowed = ", ".join(kind.name for kind in ALL.values() if kind.elsewhere)
        raise typer.BadParameter(
            f"{own[0]} breaks the server itself, which must not be one that others use; with --url: {allowed}",
            param_hint="--fault",
        )
    if names:
        return [ALL[name] for name in dict.fromkeys(names)]
    return [
        kind
        for kind in ALL.values()
        if (kind.elsewhere or not elsewhere) and (not short or (kind.in_short and not kind.needs))
    ]


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_told(one) for one in error.exceptions)
    return str(error) or type(error).__name__


def _to_repeat(arguments: list[str]) -> list[str]:
    """The options that are needed to repeat the run, without the URL, which may have a password."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
            continue
        if name in ("--json", "--markdown", "--url"):
            skip = not equals
        else:
            kept.append(argument)
            continue
        if name == "--url":
            kept.append("--url URL")
    return kept


def _print_list() -> None:
    for kind in ALL.values():
        typer.echo(f"{kind.name:<20} {kind.shows}{f' Needs {kind.needs}.' if kind.needs else ''}")


def _tell(console: Console, outcome: Outcome) -> None:
    cells = dict(zip(headings(), row(outcome), strict=True))
    told = ", ".join(f"{name} {cells[name]}" for name in headings()[1:-1] if cells[name])
    console.print(f"{outcome.fault.name}: {cells['verdict']} ({outcome.seconds:.0f} s) {told}", soft_wrap=True)
    for text in outcome.violations[:SHOWN]:
        console.print(f"  {text}", soft_wrap=True, markup=False)
    if len(outcome.violations) > SHOWN:
        console.print(f"  … and {len(outcome.violations) - SHOWN} more")


def _print_table(console: Console, report: Report) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings():
        table.add_column(heading, overflow="fold", justify="left" if heading in ("fault", "verdict") else "right")
    for outcome in report.outcomes:
        table.add_row(*row(outcome))
    console.print(table)
    for outcome in report.outcomes:
        for why in dict.fromkeys(outcome.fault.cannot_keep.values()):
            console.print(f"{outcome.fault.name}: {why}.", soft_wrap=True)
