"""Identifiers: unique, sorted by time, 16 characters, and safe wherever an id is written."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redsched.checks import check_id
from redsched.jobs import ids
from redsched.jobs.ids import new_id


def at(monkeypatch: pytest.MonkeyPatch, now_ms: int) -> str:
    """An id of that instant."""
    monkeypatch.setattr(time, "time_ns", lambda: now_ms * 1_000_000 + 999_999)
    return new_id()


def test_ids_are_16_safe_characters() -> None:
    assert all(re.fullmatch(r"[-0-9A-Z_a-z]{16}", new_id()) for _ in range(10_000))


def test_ids_are_unique() -> None:
    assert len({new_id() for _ in range(100_000)}) == 100_000


def test_ids_of_several_threads_are_unique() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [found for batch in pool.map(lambda _: [new_id() for _ in range(5_000)], range(8)) for found in batch]
    assert len(set(made)) == len(made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    state = ids._generator.getstate()
    ids._reseed()  # what the child does
    assert ids._generator.getstate() != state


@pytest.mark.parametrize("step", [1, 63, 64, 4096, 86_400_000, 10 * 365 * 86_400_000])
def test_a_later_id_sorts_behind_an_earlier_one(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    instants = [1_760_000_000_000 + number * step for number in range(8)]
    made = [at(monkeypatch, instant) for instant in instants]
    assert made == sorted(made)


def test_the_time_of_an_id_is_in_its_first_seven_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = at(monkeypatch, 1_760_000_000_000), at(monkeypatch, 1_760_000_000_000)
    assert first[:7] == second[:7]
    assert first != second


@given(st.integers(0, 2**42 - 2))
def test_all_instants_of_the_next_century_fit(instant: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        earlier, later = at(patch, instant), at(patch, instant + 1)
    assert earlier < later
    assert len(earlier) == len(later) == 16


def test_an_id_is_a_valid_job_id() -> None:
    for _ in range(1000):
        made = new_id()
        assert check_id(made) == made
