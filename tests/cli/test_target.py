"""`module:attribute`: what is found, and what is said where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redsched import BackgroundTaskScheduler
from redsched.cli.target import load
from redsched.errors import InvalidConfigError

MODULE = """
import redsched
scheduler = redsched.BackgroundTaskScheduler(declared_tasks=False)
number = 3
def made(): return scheduler
async def made_later(): return scheduler
def nothing(): return 7
def raises(): raise RuntimeError("no database")
class Services:
    jobs = scheduler
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "target_app.py").write_text(MODULE)
    (tmp_path / "target_broken.py").write_text("def inner():\n    raise KeyError('setting')\ninner()\n")
    (tmp_path / "target_needy.py").write_text("import not_installed_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("target_")]:
        del sys.modules[name]


@pytest.mark.parametrize("attribute", ["scheduler", "made", "made_later", "Services.jobs"])
async def test_a_scheduler_or_what_makes_one_is_found(attribute: str) -> None:
    assert isinstance(await load(f"target_app:{attribute}"), BackgroundTaskScheduler)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("target_app", "module:attribute"),
        ("target_app:", "module:attribute"),
        ("target_nowhere:x", "module 'target_nowhere' does not exist"),
        ("target_app.py:scheduler", "module 'target_app.py' does not exist"),
        ("target_app:schedular", "its schedulers are: scheduler"),
        ("target_app:number", "of type int"),
        ("target_app:Services", "is a class"),
        ("target_app:nothing", "returned int"),
        ("target_app:raises", "RuntimeError: no database"),
        ("target_broken:x", "KeyError: 'setting'"),
        ("target_needy:x", "not_installed_at_all"),
    ],
)
async def test_a_wrong_target_is_told(target: str, says: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        await load(target)
    assert says in str(caught.value)
    assert repr(target) in str(caught.value)


async def test_the_traceback_is_of_the_application_alone() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        await load("target_broken:x")
    assert "in inner" in str(caught.value)
    assert "redsched/cli" not in str(caught.value)
