"""Writes what is made from the code: `python docs/generate.py`, with `--check` only compares.

The key table comes from `redsched/store/keys.py`, the table of transitions from the headers of `lua/`, the glossary
from `redsched/model.py`, the options of a connection from `redsched/store/connection_options.py`, the settings from
`redsched/settings.py`. What type checkers read, `redsched/__init__.pyi`, comes from the table of names in
`redsched/__init__.py`.
"""

from __future__ import annotations

import inspect
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Literal

import redsched
from redsched import model
from redsched.model import Delivery, Outcome, Reason, State
from redsched.settings import Setting, fields
from redsched.store.connection_options import OPTIONS, SET_HERE
from redsched.store.keys import KEY_TABLE
from redsched.store.scripts import load, script_names

FOLDER = Path(__file__).parent
PAGES = (FOLDER / "architecture.md", FOLDER / "glossary.md", FOLDER / "guide" / "configuration.md")
OPEN_MODULES = ("errors", "integrations", "schedules", "testing")
STUB = FOLDER.parent / "redsched" / "__init__.pyi"


def _keys() -> str:
    rows = [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in KEY_TABLE]
    return "\n".join(["| key, after `{prefix:shard}:` | type | what |", "|---|---|---|", *rows])


def _scripts() -> str:
    rows: list[str] = []
    for name in script_names():
        script = load(name)
        state = script.sections["State"].replace("\n", " ").replace("|", "/")
        replies = ", ".join(script.replies)
        rows.append(f"| [`{name}.lua`](../lua/{name}.lua) | {script.purpose} | {state} | {replies} |")
    return "\n".join(["| script | what it does | transition | replies |", "|---|---|---|---|", *rows])


def _meanings(words: type[StrEnum]) -> dict[str, str]:
    """Each member's docstring, which Python itself does not keep."""
    text = inspect.getsource(words)
    return {
        word.value: " ".join(found[1].split())
        for word in words
        if (found := re.search(rf'    {word.name} = "{word.value}"\n    """(.+?)"""', text, re.DOTALL))
    }


def _members() -> str:
    parts: list[str] = []
    for words in (State, Outcome, Reason, Delivery):
        summary = (inspect.getdoc(words) or "").splitlines()[0]
        rows = (f"| `{word}` | {meaning} |" for word, meaning in _meanings(words).items())
        parts += [f"## {words.__name__}", "", summary, "", "| word | meaning |", "|---|---|", *rows, ""]
    return "\n".join(parts).rstrip("\n")


def _classes() -> str:
    classes = (value for name in model.__all__ if not issubclass(value := getattr(model, name), StrEnum))
    rows = (f"| `{one.__name__}` | {(inspect.getdoc(one) or '').splitlines()[0]} |" for one in classes)
    return "\n".join(["| class | what it holds |", "|---|---|", *rows])


def _options() -> str:
    where = {"tcp": "not a unix socket", "tls": "`rediss`", "sentinel": "sentinels", "users": "not `embedded`", "": ""}
    rows: list[str] = []
    for name, option in OPTIONS.items():
        only = ", ".join(part for part in (where[option.needs], "" if option.in_url else "`redis_options`") if part)
        rows.append(f"| `{name}` | {only} | {option.meaning} |")
    return "\n".join(["| option | only for | |", "|---|---|---|", *rows])


def _settings(table: Literal["scheduler", "store"]) -> str:
    kind = {"scheduler": "SchedulerConfig", "store": "RedisJobStoreConfig"}[table]
    rows = [f"| `{key}` | {_default(one)} | {one.meaning} |" for key, one in fields(table).items()]
    return "\n".join([f"| field of `{kind}` | default | |", "|---|---|---|", *rows])


def _default(setting: Setting) -> str:
    match setting.default:
        case _ if setting.shown:
            return setting.shown
        case None | ():
            return "none"
        case bool(value):
            return str(value).lower()
        case str(value):
            return f"`{value}`"
        case (value,):
            return f"`{value}`"
        case value:
            return f"{value:,g}" if value < 1e5 else f"{value:,.0f}"


def _set_here() -> str:
    names: dict[str, list[str]] = {}
    for name, why in SET_HERE.items():
        names.setdefault(why, []).append(f"`{name}`")
    rows = [f"| {why} | {', '.join(members)} |" for why, members in names.items()]
    return "\n".join(["| why not | options of redis-py |", "|---|---|", *rows])


def generated(page: str) -> str:
    """The page with its tables as they should be."""
    tables = {
        "keys": _keys,
        "scripts": _scripts,
        "members": _members,
        "classes": _classes,
        "options": _options,
        "set here": _set_here,
        "settings of the store": lambda: _settings("store"),
        "settings": lambda: _settings("scheduler"),
    }
    for name, make in tables.items():
        table = make()
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = pattern.sub(lambda match, table=table: match[1] + table + "\n" + match[2], page)
    return page


def stub() -> str:
    """The public names for type checkers, which cannot follow the imports at first use in `redsched/__init__.py`."""
    lines = ["# Made by docs/generate.py from the table in __init__.py.", ""]
    # `import redsched` is enough for these.
    lines += [f"from redsched import {module} as {module}" for module in OPEN_MODULES]
    for module, names in sorted(redsched._NAMES.items()):
        line = f"from {module} import {', '.join(sorted(names))}"
        lines += [line] if len(line) <= 120 else [f"from {module} import (", *(f"    {name}," for name in names), ")"]
    quoted = (f'    "{name}",' for name in sorted(redsched.__all__, key=lambda name: (not name.isupper(), name)))
    return "\n".join([*lines, "", "__version__: str", "", "__all__ = [", *quoted, "]", ""])


def main() -> int:
    differs = False
    wanted = {path: generated(path.read_text()) for path in PAGES} | {STUB: stub()}
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            differs = True
            if "--check" not in sys.argv:
                path.write_text(text)
    return int(differs and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
