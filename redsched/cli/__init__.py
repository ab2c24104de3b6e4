"""The command line, `redsched`: `app.py` is where it starts, and each group of commands is a module beside it."""
