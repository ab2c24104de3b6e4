"""Where the console script `redsched` starts."""

from __future__ import annotations

import sys

from redsched import __version__

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with one of `ExitCode`."""
    if sys.argv[1:] == ["--version"]:  # asked by scripts: it needs nothing of what the commands import
        sys.stdout.write(f"redsched {__version__}\n")
        return
    from redsched.cli.exits import ExitCode

    try:
        # Imported here, so that a missing extra is reported instead of a traceback.
        from redsched.cli import root
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click", "shellingham"):
            raise
        sys.stderr.write("the command line needs typer and rich: install redsched[cli]\n")
        sys.exit(ExitCode.USAGE)
    app = root.build(root.named(sys.argv[1:]))
    if "redsched.cli.service" in sys.modules:
        from redsched.cli import service

        service.own_process()
    app(prog_name="redsched")
