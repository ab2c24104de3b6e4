"""The layers and rules of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import redsched
from redsched.doctor.stored_fields import FIELDS
from redsched.store.keys import KINDS
from redsched.store.scripts import lua_folder

ROOT = Path(redsched.__file__).parent
LUA = Path(str(lua_folder()))
PURE = (
    "model", "errors", "codec.untrusted", "codec.extensions", "codec.payload_security", "codec.values",
    "jobs.options", "jobs.ids", "schedules.zones", "schedules.plan", "jobs.record", "schedules.instants",
    "jobs.spec", "schedules", "logs.escaping", "logs.redaction", "tasks.signatures", "checks", "context",
    "policies.circuit_breaker",
    "settings", "config_values",
)  # fmt: skip
"""Modules and packages that compute, and do nothing else."""

USES_PRIVATE = {
    "cli.output": {"redsched.logs.escaping": "how text is escaped: pure"},
    "cli.events": {"redsched.logs.formats": "the command line decides how logs look"},
    "cli.service": {
        "redsched.logs.formats": "the command line decides how logs look",
        "redsched.integrations.prometheus": "an integration is public, where its package is installed",
    },
    "cli.supervisor": {"redsched.logs.formats": "the command line decides how logs look"},
    "cli.root": {
        "redsched.chaos.cli": "`redsched chaos` is one of its commands",
        "redsched.demo.cli": "`redsched demo` is one of its commands",
    },
    "chaos.place": {
        "redsched.store.link": "what is done to a server itself: CONFIG, FAILOVER, CLIENT KILL",
        "redsched.store.store": "how many shards a cluster has where no number is set",
        "redsched.store.keys": "which slots are the shards'",
        "redsched.store.cluster": "which slots are the shards'",
    },
    "chaos.given": {"redsched.store.urls": "how a URL is shown without its password"},
    "integrations.prometheus": {
        "redsched.metrics.collector": "the histograms' bounds and the list of the standard set",
        "redsched.runtime.forks": "the port and the loop are those of one process",
    },
    "demo.agenda": {"redsched.store.clock": "to_ms: pure arithmetic"},
    "demo.director": {"redsched.store.clock": "from_ms, to_ms: pure arithmetic"},
    "demo.cli": {
        "redsched.embedded.server": "an embedded server, documented in the guide",
    },
    "integrations.neuroglia": {
        "redsched.tasks.class_based": "dependencies, module_name: pure; how tasks are named",
        "redsched.tasks.registry": "is_coroutine_function: pure",
    },
}
"""Module -> what it imports that is not public -> why it may."""
READS_WALL_TIME = {
    "jobs.ids": "only so that ids sort by eye",
    "doctor.examine": "tells how far this machine's clock is from Redis'; nothing is decided by it",
    "client.clock_repair": "refuses where this machine's clock is not Redis'; nothing else is decided by it",
    "cli.upcoming": "previews an expression without asking a Redis; nothing is decided by it",
}

MAX_LINES = 300
LONGER = {
    "worker.executors.processes": (310, "a pool, its children, and how each may end"),
    "integrations.neuroglia": (320, "one framework, with the story of its life cycle"),
    "tasks.registry": (405, "the registry, and each way by which it finds a function"),
    "errors": (400, "one class for each error, each with an example"),
    "jobs.spec": (380, "what may be said of a job, in one place: half of it is a list of names"),
    "scheduler": (500, "the public door: half of it is docstrings"),
    "schedules.zones": (355, "zones by name, then by their clocks: one page on what a zone is"),
    "client.change": (450, "what the door delegates to"),
}
LONGER |= {
    "model": (355, "the words, each with what it means"),
    "declarations.reconcile": (340, "one declaration from its start to what became of it"),
}
MAX_LUA_LINES = 60
LONGER_LUA = {
    "include/job": (80, "what several transitions need to know of jobs and runs"),
    "circuit": (75, "the three states of a circuit side by side"),
    "cancel": (120, "a job, its waiting runs and its live ones, ended as one"),
    "commit": (105, "each outcome of a plan, in the order in which they are looked at"),
    "include/claim": (190, "one function for each kind of due entry"),
    "include/replay": (105, "reads back exactly the rows that claim makes, each by itself"),
    "include/settle": (175, "one branch for each verb"),
    "declare": (85, "generations: numbered, seen, kept, and each checked"),
    "modify": (120, "one branch for each `when`"),
    "schedule": (175, "one branch for each mode"),
    "include/reap": (76, "workers that are gone, and dead runs beyond their bounds"),
    "include/outcomes": (85, "outcomes of runs: noted, reported, and kept"),
    "include/finish": (90, "the usual run's end, and what is kept of it"),
    "include/found": (115, "one search, from the index to the row, in which nothing is believed"),
    "include/take": (70, "what is claimed one by one: of a queue, and of a place"),
}
KEY_LITERALS = {
    "reactive.streams": {":dead": "beside a stream of the user's, which is not one of our keys"},
    "store.queries": {
        "job:": "the kind of `Keys.every`, and what is cut off to get the id",
        "due:": "the kind of `Keys.every`",
        "worker:": "what `clear` keeps",
        "requests:": "what `clear` keeps",
    },
}
"""Module -> literal -> why it may."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
SCRIPTS = {str(path.relative_to(LUA).with_suffix("")): path for path in sorted(LUA.rglob("*.lua"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(module: str) -> Iterator[str]:
    """Every module that is imported, anywhere in the file; `from a import b` is a.b where that is a module."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("redsched.") in MODULES else node.module


def circles() -> list[set[str]]:
    """The sets of modules that import each other, by whatever way round: those for the type checker alone, and those
    inside of functions, counted. (Tarjan's strongly connected components.)"""
    graph = {
        m: {i.removeprefix("redsched.") for i in imports(m) if under(i, "redsched")} & MODULES.keys() for m in MODULES
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            place = stack.index(module)
            if len(stack) - place > 1:
                found.append(set(stack[place:]))
            del stack[place:]

    for module in MODULES:
        if module not in index:
            visit(module)
    return found


def under(imported: str, *packages: str) -> bool:
    return any(imported == package or imported.startswith(f"{package}.") for package in packages)


def docstrings(node: ast.Module) -> set[ast.AST]:
    """Strings that stand alone: docstrings of modules, classes, functions and attributes."""
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


@pytest.mark.parametrize("module", [m for m in MODULES if under(m, *PURE)])
def test_a_pure_module_imports_nothing_that_does_io(module: str) -> None:
    forbidden = ("redis", "anyio", "asyncio", "socket", "threading", "subprocess", "redsched.store", "redsched.worker")
    assert [name for name in imports(module) if under(name, *forbidden)] == []


def test_only_the_store_speaks_redis() -> None:
    speaks = {m for m in MODULES for name in imports(m) if under(name, "redis")}
    assert {m for m in speaks if not under(m, "store")} == set()
    assert "store.link" in speaks


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles() == []


@pytest.mark.parametrize("module", [m for m in MODULES if under(m, "worker")])
def test_a_worker_and_its_loops_do_not_write_attributes_of_each_other(module: str) -> None:
    """Each counter has one owner, and others call its methods: `Capacity` has room, ahead, holding and reserved."""
    written: list[str] = []
    for node in ast.walk(tree(module)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, ast.Attribute):
                    owner = ast.unparse(one.value).rpartition(".")[2].removeprefix("_")
                    if owner in ("worker", "loop", "capacity", "slots"):
                        written.append(f"{one.lineno}: {ast.unparse(one)}")
    assert written == []


@pytest.mark.parametrize("module", [m for m in MODULES if under(m, "worker", "client", "declarations")])
def test_no_module_uses_a_part_of_a_row_by_its_number(module: str) -> None:
    """`store/rows.py` has a name for each index."""
    numbers: list[str] = []
    for node in ast.walk(tree(module)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("row", "commit"):
            parts = [node.slice]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "itemgetter":
            parts = node.args
        numbers += [ast.unparse(part) for part in parts if isinstance(part, ast.Constant)]
    assert numbers == []


def test_the_scheduler_is_passed_to_no_function_of_its_own_package() -> None:
    """Functions that ask Redis take a `Client`."""
    public = {
        "__init__",
        "runtime.current",
        "testing.kits",
        "testing.pytest_plugin",
        "reactive.processor",
        "tasks.decorator",
    }
    knows = {m for m in MODULES if "redsched.scheduler" in imports(m)}
    assert knows - public == set()


def public_only(module: str, own: str) -> list[str]:
    private: list[str] = []
    for name in imports(module):
        if not under(name, "redsched") or name in ("redsched", "redsched.errors") or under(name, "redsched.testing"):
            continue
        if not under(name, f"redsched.{own}", "redsched.cli") and name not in USES_PRIVATE.get(module, {}):
            private.append(name)
    return private


@pytest.mark.parametrize("module", [m for m in MODULES if under(m, "cli", "demo", "integrations", "chaos")])
def test_what_stands_on_the_public_api_uses_nothing_else(module: str) -> None:
    assert public_only(module, module.split(".")[0]) == []


def test_no_exception_for_the_command_line_is_left_over() -> None:
    unused = [f"{m}: {name}" for m, names in USES_PRIVATE.items() for name in names if name not in set(imports(m))]
    assert unused == []


def wall_time(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            # `localtime(x)` and `fromtimestamp(x)` convert a given instant: they read no clock.
            if node.attr in ("utcnow", "today", "time_ns") or text in ("time.time", "datetime.now", "dt.datetime.now"):
                yield f"{node.lineno}: {text}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"{node.lineno}: {a.name}" for a in node.names if a.name in ("time", "time_ns"))


@pytest.mark.parametrize("module", [m for m in MODULES if m not in READS_WALL_TIME])
def test_nothing_reads_wall_time(module: str) -> None:
    assert list(wall_time(module)) == []


def test_no_exception_for_wall_time_is_left_over() -> None:
    assert [m for m in READS_WALL_TIME if not list(wall_time(m))] == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_pickles(module: str) -> None:
    forbidden = (
        "pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "shelve",
        "marshal",
        "multiprocessing",
        "concurrent.futures",
    )
    assert [name for name in imports(module) if under(name, *forbidden)] == []


@pytest.mark.parametrize("module", [m for m in MODULES if m != "tasks.signatures"])
def test_only_signatures_asks_for_a_signature(module: str) -> None:
    """Since Python 3.14 that evaluates annotations, which may name what is not there."""
    evaluates = {"inspect.signature", "inspect.getfullargspec", "inspect.get_annotations", "annotationlib"}
    assert [name for name in imports(module) if name in evaluates] == []
    used = (ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute))
    assert [text for text in used if text in evaluates] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_read_in_one_sitting(module: str) -> None:
    limit, _ = LONGER.get(module, (MAX_LINES, ""))
    assert len(MODULES[module].read_text().splitlines()) <= limit


def code_lines(path: Path) -> int:
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("--"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_read_in_one_look(script: str) -> None:
    limit, _ = LONGER_LUA.get(script, (MAX_LUA_LINES, ""))
    assert code_lines(SCRIPTS[script]) <= limit


def test_no_exception_for_size_is_left_over() -> None:
    short = [m for m in LONGER if len(MODULES[m].read_text().splitlines()) <= MAX_LINES]
    assert short + [s for s in LONGER_LUA if code_lines(SCRIPTS[s]) <= MAX_LUA_LINES] == []


KEY_LITERAL = re.compile(
    r"(^|[:}])(due|parked|job|run|live|waiting|tag|worker|idle|wake|mail|requests|result|circuit|ended|batches|index|outcome|answers|declared|declarers|generations):$|:(applications|clock|leases|dead|events|workers|parking)$"
)


def key_literals(module: str) -> Iterator[tuple[int, str]]:
    prose = docstrings(tree(module))
    for node in ast.walk(tree(module)):
        text = node.value if isinstance(node, ast.Constant) and node not in prose else None
        if isinstance(text, str) and KEY_LITERAL.search(text):
            yield node.lineno, text


@pytest.mark.parametrize("module", [m for m in MODULES if m != "store.keys"])
def test_no_other_module_than_keys_knows_a_key(module: str) -> None:
    allowed = KEY_LITERALS.get(module, {})
    assert [(line, text) for line, text in key_literals(module) if text not in allowed] == []


def test_no_exception_for_key_literals_is_left_over() -> None:
    unused = [
        f"{m}: {text}"
        for m, texts in KEY_LITERALS.items()
        for text in texts
        if text not in {found for _, found in key_literals(m)}
    ]
    assert unused == []


def test_doctor_knows_the_fields_of_each_hash() -> None:
    hashes = {kind for kind, about in KINDS.items() if about.type == "HASH"}
    assert hashes == set(FIELDS), "redsched/doctor/stored_fields.py says which fields redsched keeps in each"
