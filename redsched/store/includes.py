"""Inserts the includes of a script, each in a separate scope that exports only what its header gives.

Lua allows a function 200 locals, and a script is one function. So a local of an include that no other part uses
counts only inside the include, and cannot be mistaken for one of another include. Functions that a script never calls
are left out: they would be made at each call of the script.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from importlib.resources.abc import Traversable

__all__ = ["IncludeError", "assemble", "given"]

_INCLUDE = re.compile(r"^--- @include (\w+)$", re.MULTILINE)
_GIVES = re.compile(r"^-- Gives   (?P<rows>.*\n(?:--         .*\n)*)", re.MULTILINE)
_NAME = r"\w+(?:\([^()]*\))?"
_PART = re.compile(rf"^(?P<names>{_NAME}(?:, {_NAME})*)(?:(?: -> |: ).*)?$")
_FUNCTION = re.compile(r"^local function (?P<name>\w+)\([^\n]*\)\n.*?^end$", re.MULTILINE | re.DOTALL)
_LOCAL_FUNCTION = re.compile(r"^local function (?P<name>\w+)")
_LOCAL = re.compile(r"^local (?P<names>\w+(?:, \w+)*)(?P<value> =.*)?$")
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"""--.*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\w+""")


class IncludeError(ValueError):
    """An include's header and its code do not fit together."""


@dataclass(slots=True)
class _Part:
    """Some lines of a script without comments: from an include, with what that gives, or the script's own."""

    code: str
    include: str = ""
    gives: tuple[str, ...] = ()


def given(name: str, text: str) -> list[str]:
    """What an include gives to what follows it, from its header.

    Parts are on separate lines, or separated by `; `. Each is `name, name(arguments), ...`, then perhaps
    ` -> what it returns` or `: what it is`. A row that goes on is indented further.

    Raises:
        IncludeError: Gives is missing, or a part of it cannot be parsed.
    """
    if not (found := _GIVES.search(text)):
        raise IncludeError(f"include/{name}.lua: the header has no Gives")
    names: list[str] = []
    for line in found["rows"].splitlines():
        row = line.removeprefix("--         ")
        for part in row.split("; ") if not row.startswith(" ") else ():
            if not (match := _PART.match(part)):
                raise IncludeError(
                    f"include/{name}.lua: Gives: cannot read {part!r}; write `name, name(...) -> meaning`"
                )
            names += _WORD.findall(re.sub(r"\([^()]*\)", "", match["names"]))
    return names


def _identifiers(code: str) -> list[str]:
    """The words of some code that are in no string and no comment."""
    return [token for token in _TOKEN.findall(code) if token[0] not in "-'\""]


def _without_comments(text: str) -> str:
    # Comments cost parsing time at each SCRIPT LOAD only, but they also cost memory in Redis: leave them out.
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))


def _parts(text: str, folder: Traversable, seen: set[str], include: str = "") -> Iterator[_Part]:
    """The code in its order: what an include includes comes before it, so that it is visible to all that follows."""
    pieces = _INCLUDE.split(text)
    own: list[_Part] = []
    for code, name in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        if stripped := _without_comments(code):
            own.append(_Part(stripped))
            if not include:
                yield own.pop()
        if name and name not in seen:
            seen.add(name)
            yield from _parts((folder / "include" / f"{name}.lua").read_text("utf-8"), folder, seen, name)
    if include:
        yield _Part("\n".join(part.code for part in own), include, tuple(given(include, text)))


def _leave_out_uncalled(parts: list[_Part]) -> None:
    words = Counter(word for part in parts for word in _identifiers(part.code))
    found = True
    while found:  # what is called only by what is left out, is left out too
        found = False
        for part in parts:
            for function in list(_FUNCTION.finditer(part.code)):
                inside = Counter(_identifiers(function[0]))
                if words[function["name"]] == inside[function["name"]]:
                    part.code = part.code.replace(function[0], "", 1)
                    words -= inside
                    found = True


def _scoped(part: _Part, outside: Set[str]) -> str:
    """An include as a block that sets the locals which it gives and others use; they are declared before it."""
    missing = set(part.gives)
    wanted = tuple(name for name in part.gives if name in outside)
    lines: list[str] = []
    for line in part.code.splitlines():
        defined: set[str] = set()
        if match := _LOCAL_FUNCTION.match(line):
            defined = {match["name"]}
        elif match := _LOCAL.match(line):
            defined = set(match["names"].split(", "))
        missing -= defined
        lines.append(_assigned(line, defined, set(wanted)))
    if missing & outside:
        raise IncludeError(f"include/{part.include}.lua: no top-level local of it is {sorted(missing)}, which it gives")
    declared = [f"local {', '.join(wanted)}"] if wanted else []
    return "\n".join([*declared, "do", *lines, "end"])


def _assigned(line: str, defined: Set[str], outer: Set[str]) -> str:
    """A line that declares locals, so that those of them that are declared outside of the block are set instead."""
    if not defined & outer:
        return line
    if line.startswith("local function "):
        return line.removeprefix("local ")
    inner = [name for name in _WORD.findall(line.partition(" =")[0])[1:] if name not in outer]
    assignment = line.removeprefix("local ") if " =" in line else ""
    return "\n".join(part for part in (f"local {', '.join(inner)}" if inner else "", assignment) if part)


def assemble(text: str, folder: Traversable) -> str:
    """A script's code with all that it includes, each once, without comments and what it never calls.

    Raises:
        IncludeError: the header of an include does not fit its code.
    """
    parts = list(_parts(text, folder, set()))
    _leave_out_uncalled(parts)
    words = [set(_identifiers(part.code)) for part in parts]
    used = Counter(word for part in words for word in part)
    joined: list[str] = []
    for part, own in zip(parts, words, strict=True):
        outside = {name for name in part.gives if used[name] > (name in own)}
        code = _scoped(part, outside) if part.include else part.code
        joined += [line for line in code.splitlines() if line]
    return "\n".join(joined)
