"""The log: readable for people, one object a line for programs, and no flood while Redis is away."""

from __future__ import annotations

import io
import json
import logging
import sys

from redsched.logs.formats import JsonFormatter, RepeatFilter, TextFormatter


def record(
    message: str, *args: object, level: int = logging.WARNING, name: str = "redsched.store"
) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def test_text_has_time_level_and_message() -> None:
    text = TextFormatter().format(record("no answer from %s", "Redis"))
    assert text.split()[2:] == ["WARNING", "no", "answer", "from", "Redis"]
    assert "\x1b" not in text
    assert "\x1b[33m" in TextFormatter(colour=True).format(record("x"))


def test_text_names_the_logger_of_others() -> None:
    assert "shop: sold" in TextFormatter().format(record("sold", name="shop"))


def test_json_is_one_line_with_the_traceback_and_extras() -> None:
    log = logging.Logger("shop")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed", extra={"order": 7})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"], entry["order"]) == ("error", "shop", "failed", 7)
    assert "ValueError" in entry["traceback"]
    assert entry["time"].endswith("+00:00")


def test_the_same_warning_is_held_back_for_a_while_and_then_counted(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(sys.modules["redsched.logs.formats"].time, "monotonic", lambda: now[0])
    repeats = RepeatFilter(every=10)
    assert repeats.filter(record("gone; sending again in 0.1 s"))
    assert not repeats.filter(record("gone; sending again in 0.2 s"))
    assert not repeats.filter(record("gone; sending again in 0.5 s"))
    assert repeats.filter(record("something else"))
    assert repeats.filter(record("gone", level=logging.ERROR))
    assert repeats.filter(record("gone", name="shop"))
    now[0] += 10
    later = record("gone; sending again in 0.5 s")
    assert repeats.filter(later)
    assert "(and 2 times more)" in TextFormatter().format(later)
