"""One spelling everywhere: the words of redsched/model.py are those of the scripts, the worker and the command line."""

from __future__ import annotations

import ast
import re
from enum import StrEnum
from pathlib import Path

import redsched
from redsched import model
from redsched.cli.events import KINDS
from redsched.model import Delivery, Event, Outcome, Reason, State
from redsched.store.scripts import lua_folder

ROOT = Path(redsched.__file__).parent
LUA = "\n".join(
    line
    for path in sorted(Path(str(lua_folder())).rglob("*.lua"))
    for line in path.read_text().splitlines()
    if not line.lstrip().startswith("--")
)
SETTLE = (Path(str(lua_folder())) / "include" / "settle.lua").read_text()
WORKER = [ast.parse(path.read_text()) for path in sorted((ROOT / "worker").glob("*.py"))]
REASONS = {reason.value for reason in Reason}


def documented_kinds() -> set[str]:
    """The words of the docstring under `Event.kind`."""
    tree = ast.parse((ROOT / "model.py").read_text())
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == Event.__name__)
    field = next(i for i, n in enumerate(body) if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "kind")
    text = body[field + 1]
    assert isinstance(text, ast.Expr)
    return set(re.findall(r"\w+", ast.literal_eval(text.value)))


def calls_of(function: str) -> list[list[str]]:
    """The arguments of each call in the scripts, as text, up to the third."""
    found: list[list[str]] = []
    for match in re.finditer(rf"(?<![\w.]){function}\(", LUA):
        depth, start, args = 1, match.end(), []
        for at in range(match.end(), len(LUA)):
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(LUA[at], 0)
            if depth == 0 or (depth == 1 and LUA[at] == ","):
                args.append(LUA[start:at].strip())
                start = at + 1
            if depth == 0:
                break
        found.append(args)
    return found


def results_in(expression: str) -> set[str]:
    """The string literals that an expression can be: not those that it compares with."""
    return set(re.findall(r"'(\w+)'", re.sub(r"[=~]= '\w+'", "", expression)))


def lua_kinds() -> set[str]:
    kinds = {word for args in calls_of("event") for word in results_in(args[0])}
    kinds |= {word for args in calls_of("span") for word in results_in(args[0])}
    kinds |= {word for args in calls_of("skip") for word in results_in(args[0])}
    return kinds


def verbs() -> set[str]:
    """The verbs of settle, by its header."""
    line = re.search(r"^-- Verbs: (.+)$", SETTLE, re.MULTILINE)
    assert line
    return set(re.findall(r"\w+", line[1])) - {"ended"}


def worker_words(enum: str) -> set[str]:
    nodes = [node for module in WORKER for node in ast.walk(module)]
    return {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == enum}


def test_the_kinds_of_events_are_listed_alike_in_the_model_and_on_the_command_line() -> None:
    assert set(KINDS) == documented_kinds()
    assert len(KINDS) == len(set(KINDS))


def test_every_kind_of_the_model_is_written_by_somebody_and_no_other_is() -> None:
    # `scheduled` and `claimed` are lists of ids in a stream entry; modify's kinds come from the client.
    decoded = set(re.findall(r'kind="(\w+)"', (ROOT / "client/events.py").read_text()))
    modified = set(re.findall(r'"kind": "(\w+)"', (ROOT / "client/change.py").read_text()))
    assert lua_kinds() | verbs() | decoded | modified == set(KINDS)


def test_the_glossary_has_every_word_of_the_model() -> None:
    page = (ROOT.parent / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", page, re.MULTILINE)
    assert len(terms) == len(dict(terms)) >= 20
    assert {"task", "job", "run", "attempt", "lease", "claim", "token", "misfire"} <= set(dict(terms))
    defined = set(re.findall(r"^\| `(\w+)` \| .+ \|$", page, re.MULTILINE))
    words = {member.value for enum in (State, Outcome, Reason, Delivery) for member in enum}
    assert defined == words | {name for name in model.__all__ if not issubclass(getattr(model, name), StrEnum)}


def test_the_verbs_of_settle_are_the_outcomes() -> None:
    assert verbs() == {outcome.value for outcome in Outcome}
    assert set(re.findall(r"(?:verb|row\[3\]) [=~]= '(\w+)'", SETTLE)) <= verbs()


def test_every_outcome_is_an_event_of_that_kind() -> None:
    assert {outcome.value for outcome in Outcome} <= set(KINDS)


def test_every_reason_of_the_scripts_is_in_the_model() -> None:
    given = {word for args in calls_of("event") if len(args) > 2 for word in results_in(args[2])}
    given |= {word for args in calls_of("bury") if len(args) > 2 for word in results_in(args[2])}
    given |= {word for args in calls_of("span") if len(args) > 2 for word in results_in(args[2])}
    given |= set(re.findall(r"'HSET', [^\n]*'reason', '(\w+)'", LUA))
    assert given, "nothing found: the test reads the scripts wrongly"
    assert given <= REASONS, given - REASONS


def test_every_reason_of_the_model_is_given_by_somebody() -> None:
    by_scripts = set(re.findall(r"'(\w+)'", LUA))
    by_worker = {Reason[name].value for name in worker_words("Reason")}
    client = "".join(
        (ROOT / f"{name}.py").read_text()
        for name in ("client/change", "declarations/reconcile", "declarations/renames")
    )
    by_client = set(re.findall(r"Reason\.(\w+)", client))
    given = by_scripts | by_worker | {Reason[name].value for name in by_client}
    assert given >= REASONS, REASONS - given


def test_the_worker_settles_with_every_outcome() -> None:
    assert worker_words("Outcome") == {outcome.name for outcome in Outcome}


def test_the_states_that_the_scripts_store_are_those_of_the_model() -> None:
    stored = set(re.findall(r"'HSET', [^\n]*'state', '(\w+)'", LUA)) | set(
        re.findall(r"= 'state'\n[^\n]*= '(\w+)'", LUA)
    )
    assert stored == {State.PAUSED.value, State.DEAD.value}
    compared = set(re.findall(r"state [=~]= '(\w+)'", LUA))
    assert compared <= {state.value for state in State}


def test_the_outcomes_of_a_plan_are_those_of_its_header() -> None:
    commit = (Path(str(lua_folder())) / "commit.lua").read_text()
    named = re.search(r"one of (.+) for each row", commit)
    assert named
    body = commit.partition("local function commit(row)")[2]
    returned = set(re.findall(r"(?:return|outcome =) '(\w+)'", body))
    assert returned == set(re.findall(r"\w+", named[1])) - {"or"}
