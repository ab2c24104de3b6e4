"""Nothing that was stored steers a terminal, forges a line of the log, or breaks what a program reads."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redsched.logs.escaping import one_line, to_json
from redsched.logs.formats import JsonFormatter, TextFormatter

HOSTILE = {
    "escape sequence": "\x1b[2J\x1b]0;title\x07",
    "C1 control": "\x9b31m\x85",
    "forged line": "ok\n2026-03-29 03:00:00.123 ERROR   forged",
    "carriage return": "bad\rgood",
    "right to left": "\u202egnp.exe\u2066\u200f",
    "line separator": "a\u2028b\u2029c",
    "lone surrogate": "a\ud800b",
    "null": "a\x00b",
}


def record(message: str, *args: Any, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord("redsched.worker", logging.ERROR, __file__, 1, message, args, info)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_text_log_shows_what_is_hostile_and_obeys_none_of_it(text: str) -> None:
    lines = TextFormatter().format(record("task %s failed", text, error=ValueError(text))).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("    ") for line in lines[1:]), "only the log itself begins a line at the margin"
    "\n".join(lines).encode()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_json_log_is_one_printable_line_that_says_what_was_said(text: str) -> None:
    made = record("%s", text, error=ValueError(text))
    made.__dict__[text] = {text: [text, math.nan]}
    line = JsonFormatter().format(made)
    assert line.isprintable()
    entry = json.loads(line, parse_constant=pytest.fail)
    assert entry["message"] == text
    assert entry[text] == {text: [text, "NaN"]}


@given(st.text() | st.text(alphabet=st.characters(codec=None, categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp"])))
def test_one_line_is_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()
    one_line(text).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(alphabet=st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet=st.characters(codec=None)), inner),
)


@given(VALUES, st.sampled_from([None, 2]))
def test_json_is_valid_and_printable_whatever_the_value(value: Any, indent: int | None) -> None:
    text = to_json(value, indent=indent)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()
    read = json.loads(text, parse_constant=pytest.fail)
    if isinstance(value, str):
        assert read == value
    if isinstance(value, float) and not math.isfinite(value):
        assert read in ("NaN", "Infinity", "-Infinity")
