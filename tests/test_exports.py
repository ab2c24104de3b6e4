"""What users import: complete, in order, and explained."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import pkgutil
import re
import tomllib
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest
import redis

import redsched
import redsched.errors
import redsched.testing
from redsched import context
from redsched.declarations import definition as declarations

ROOT = Path(__file__).parents[1]
PUBLIC = [name for name in redsched.__all__ if not name.startswith("__")]
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(redsched, name))]


def test_all_is_sorted_and_names_nothing_twice() -> None:
    assert redsched.__all__ == sorted(set(redsched.__all__))


def test_type_checkers_see_each_public_name_in_the_module_that_has_it() -> None:
    """The stub is made from the table of names (docs/generate.py), which is the only list of them."""
    tree = ast.parse(Path(redsched.__file__).with_suffix(".pyi").read_text())
    typed = {a.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    modules = {name for name, home in typed.items() if home == "redsched"}
    assert all(inspect.ismodule(getattr(redsched, name)) for name in modules)
    assert {name: home for name, home in typed.items() if name not in modules} == redsched._HOMES
    assert {*typed, "__version__"} == {*redsched.__all__, *modules}


def test_every_public_name_is_in_the_list_of_its_module() -> None:
    missing = {
        f"{home}.{name}" for name, home in redsched._HOMES.items() if name not in importlib.import_module(home).__all__
    }
    assert missing == set()


def test_the_version_is_written_once_and_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    source = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text()
    assert re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE) == [redsched.__version__]
    assert metadata.version("redsched") == redsched.__version__


def test_every_error_can_be_imported_from_the_top() -> None:
    made_here = {
        name
        for name, value in vars(redsched.errors).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == "redsched.errors"
    }
    assert made_here <= set(redsched.__all__), made_here - set(redsched.__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_is_one_of_redsched(name: str) -> None:
    value = getattr(redsched, name)
    if issubclass(value, Exception):
        assert issubclass(value, redsched.RedschedError)


def explained(value: Any) -> bool:
    doc = inspect.getdoc(value) or ""
    # dataclasses make a docstring of their signature
    return bool(doc.strip()) and not doc.startswith(f"{getattr(value, '__name__', '')}(")


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert explained(getattr(redsched, name))


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_has_a_docstring(name: str) -> None:
    cls = getattr(redsched, name)
    silent: list[str] = []
    for base in cls.__mro__:
        if not base.__module__.startswith("redsched"):
            continue
        for attribute, value in vars(base).items():
            if attribute.startswith("_") or isinstance(value, Enum):
                continue
            inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(inner) and not explained(getattr(cls, attribute, inner)) and not explained(inner):
                silent.append(attribute)
    assert silent == []


@pytest.mark.parametrize("name", redsched.testing.__all__)
def test_every_name_of_the_testing_kit_has_a_docstring(name: str) -> None:
    assert explained(getattr(redsched.testing, name))


@pytest.mark.parametrize(
    "module", [m.name for m in pkgutil.walk_packages(redsched.__path__, "redsched.") if "__main__" not in m.name]
)
def test_every_all_names_what_there_is(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in getattr(loaded, "__all__", ()) if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(redsched, name)) or "")


MODULES_OF_API = sorted({getattr(redsched, n).__module__ for n in PUBLIC} | {"redsched", "redsched.testing"})


@pytest.mark.parametrize("module", MODULES_OF_API)
def test_the_examples_in_docstrings_are_true(
    module: str, redsched_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each starts with an empty server at `url`, and with every public name at hand."""
    monkeypatch.setattr(declarations, "declared", [])
    monkeypatch.setattr(context, "schedulers", WeakValueDictionary())
    loaded = importlib.import_module(module)
    url = f"{redsched_url}?db=9"
    names = {"asyncio": asyncio, "redsched": redsched, **{name: getattr(redsched, name) for name in PUBLIC}}
    for example in doctest.DocTestFinder().find(loaded, extraglobs={**names, "url": url}):
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0, example.name
