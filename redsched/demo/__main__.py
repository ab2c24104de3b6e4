"""`python -m redsched.demo` is `redsched demo`."""

import typer

from redsched.demo.cli import register

app = typer.Typer(add_completion=False)
register(app)
app()
