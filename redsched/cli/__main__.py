"""`python -m redsched.cli` is `redsched`."""

from redsched.cli.app import main

main()
