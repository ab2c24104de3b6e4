"""Writes the generated tables of docs/architecture.md: `python docs/generate.py`, with `--check` only compares.

The key table comes from `redsched/store/keys.py`, the table of transitions from the headers of `lua/`.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from redsched.model import Outcome, Reason, State
from redsched.store.keys import KEY_TABLE
from redsched.store.scripts import load, script_names

PAGE = Path(__file__).parent / "architecture.md"


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


def _words() -> str:
    rows: list[str] = []
    for words in (State, Outcome, Reason):
        text = inspect.getsource(words)
        for word in words:
            doc = re.search(rf'    {word.name} = "{word.value}"\n    """(.+?)"""', text, re.DOTALL)
            meaning = " ".join(doc[1].split()) if doc else ""
            rows.append(f"| {words.__name__} | `{word.value}` | {meaning} |")
    return "\n".join(["| kind | word | meaning |", "|---|---|---|", *rows])


def generated(page: str) -> str:
    """The page with its tables as they should be."""
    for name, table in (("keys", _keys()), ("scripts", _scripts()), ("words", _words())):
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = pattern.sub(lambda match, table=table: match[1] + table + "\n" + match[2], page)
    return page


def main() -> int:
    page = PAGE.read_text()
    wanted = generated(page)
    if "--check" in sys.argv:
        return 0 if page == wanted else 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
