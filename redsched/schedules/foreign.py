"""Recognizes parts of crontabs and of other schedulers' expressions that are not a schedule, and says what to do."""

import re

from redsched.errors import InvalidScheduleError

__all__ = ["refuse_foreign", "refused"]

_ZONE = re.compile(r"(?P<word>CRON_TZ|TZ)=(?P<zone>\S*)\s*(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SETTING = re.compile(r"(?P<word>[A-Za-z_]\w*)\s*=")
_COMMENT = re.compile(r"(?:^|\s)#(?P<comment>.*)", re.DOTALL)
_WRAPPED = re.compile(r"(?P<word>cron|rate|at)\((?P<inside>.*)\)", re.IGNORECASE | re.DOTALL)
_YEAR = re.compile(r"(?:\d{4}(?:[-/,]\d+)*|\*/\d+|\*|\?)", re.ASCII)

_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
# Text that may be a field, as opposed to a command or the name of a user.
_FIELD = re.compile(rf"(?:\d+[lw]?|[lw]\d*|lw|wl|h|(?:{_NAMES})l?|[*?~,/#-])+", re.IGNORECASE | re.ASCII)


def refused(text: str, problem: str) -> InvalidScheduleError:
    """The error for an expression, ready to be raised."""
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return InvalidScheduleError(f"expression={shown!r}: {problem}", field="expression")


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else f"{text[:60]}…"


def refuse_foreign(text: str) -> None:
    """Refuse an expression that has more in it than the fields of a schedule.

    Raises:
        InvalidScheduleError: it has; the message names what it is.
    """
    text = text.strip()
    if match := _ZONE.match(text):
        raise refused(
            text,
            f"{match['word']}= is how a crontab names a time zone; pass timezone={match['zone'].strip()!r}, and the "
            f"expression {_short(match['rest'])!r}.",
        )
    if match := _SETTING.match(text):
        raise refused(
            text, f"{match['word']}= sets a variable of a crontab; it is not a schedule. Give the fields alone."
        )
    if match := _COMMENT.search(text):
        before = _short(text[: match.start()])
        remedy = f"leave it out: {before!r}" if before else "it has no schedule in it"
        raise refused(text, f"'# {_short(match['comment'])}' is a comment; {remedy}.")
    if match := _WRAPPED.fullmatch(text):
        remedy = {
            "cron": "give what is inside, without the year at its end",
            "rate": "use interval=",
            "at": "use run_at=",
        }[match["word"].lower()]
        raise refused(text, f"{match['word']}(…) is how AWS EventBridge writes a schedule; {remedy}.")
    if text.startswith("@"):
        _refuse_nickname(text)
    else:
        _refuse_surplus(text)


def _refuse_nickname(text: str) -> None:
    word, *rest = text.split(maxsplit=1)
    if word.lower() == "@reboot":
        raise refused(
            text,
            "jobs outlive the processes that run them, so there is no reboot to fire at; call the function when your "
            "service starts, or schedule it once for now.",
        )
    if word.lower() == "@every":
        raise refused(text, "@every is Go's way to write an interval; use interval= (seconds or a timedelta).")
    if rest:
        raise refused(
            text,
            f"{_short(rest[0])!r} after {word} looks like the command of a crontab line; give {word!r} alone, and a "
            f"function as the task.",
        )


def _refuse_surplus(text: str) -> None:
    fields = text.split()
    if len(fields) < 6:
        return
    strange = next((index for index, part in enumerate(fields) if index > 4 and not _FIELD.fullmatch(part)), None)
    if strange is not None:
        raise refused(
            text,
            f"{_short(' '.join(fields[strange:]))!r} looks like the command (or the user) of a crontab line; give "
            f"{' '.join(fields[:strange])!r}, and a function as the task.",
        )
    if re.fullmatch(r"\d{4}(?:[-/,]\d+)*", fields[-1], re.ASCII) or (len(fields) == 7 and _YEAR.fullmatch(fields[-1])):
        raise refused(
            text,
            f"it has {len(fields)} fields, and the last one ({fields[-1]!r}) is a year; years are not part of an "
            f"expression here: give {' '.join(fields[:-1])!r} with start= and end=, or run_at= for a single run.",
        )
