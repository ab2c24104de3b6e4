"""The account compares what was due (the independent list), what was done (the ledger), and the scheduler's events.

The account of `redsched chaos` has another duty: it knows no list of what is due, and judges each execution by the
faults that were made. Both read the same ledger, `redsched.testing.ledger`.

Pure. Each due fire is exactly one of these, or it is **lost**:

- **ran**: the ledger, which is outside of Redis, contains it;
- **coalesced**, **missed** or **skipped**: an event says so, with the span of fires that it covers.

A fire is **doubled** if the ledger contains it more often than the events explain. The run of a dead worker is started
again when its lease has expired (`recovered`); that is what at-least-once means. Such repetitions are counted
separately, as **again**, and must have a higher fencing token than before. **Extra** counts what was done but never
due; **contradicted** counts what was done although the scheduler says that it was not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from redsched import Event
from redsched.demo.entries import Entry
from redsched.demo.pizzeria import CANCEL_MINUTE, Order, Step
from redsched.testing.ledger import Line

__all__ = ["Account", "OrderLine", "ScheduleLine", "Span", "make_account", "spans_of"]

EXPLAINED = ("coalesced", "missed", "skipped")


@dataclass(frozen=True, slots=True)
class Span:
    """An event about the fires of a job, from the first to the last."""

    kind: str
    job_id: str
    first_ms: int
    last_ms: int
    count: int | None


def spans_of(events: Iterable[Event]) -> list[Span]:
    """The events that explain a fire which did not run, or ran again."""
    spans: list[Span] = []
    for event in events:
        if event.kind in (*EXPLAINED, "recovered") and event.fire_time is not None:
            first_ms = round(event.fire_time.timestamp() * 1000)
            last = event.last_fire_time
            last_ms = first_ms if last is None else round(last.timestamp() * 1000)
            spans.append(Span(event.kind, event.job_id, first_ms, last_ms, event.count))
    return spans


@dataclass(slots=True)
class ScheduleLine:
    """How the fires of one schedule ended."""

    package: str
    number: int
    expression: str
    zone: str
    lateness: str
    due: int = 0
    ran: int = 0
    coalesced: int = 0
    missed: int = 0
    skipped: int = 0
    again: int = 0
    doubled: int = 0
    lost: int = 0
    extra: int = 0
    contradicted: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether every due fire is counted exactly once, without any fault."""
        faults = self.doubled + self.lost + self.extra + self.contradicted
        return faults == 0 and self.due == self.ran + self.coalesced + self.missed + self.skipped


@dataclass(slots=True)
class OrderLine:
    """How the steps of one order ended."""

    order_id: str
    place_ms: int
    cancelled: bool
    ran: list[str] = field(default_factory=list[str])
    stopped: list[str] = field(default_factory=list[str])
    """Steps that the cancellation ended."""
    faults: list[str] = field(default_factory=list[str])
    """Descriptions of what is wrong."""
    again: int = 0

    @property
    def adds_up(self) -> bool:
        return not self.faults


@dataclass(slots=True)
class Account:
    """The account of the whole day."""

    schedules: list[ScheduleLine]
    orders: list[OrderLine]
    strangers: int = 0
    """Effects of jobs that were never scheduled."""

    def total(self, column: str) -> int:
        """The sum of a column of the schedules."""
        return sum(int(getattr(line, column)) for line in self.schedules)

    @property
    def again(self) -> int:
        return self.total("again") + sum(order.again for order in self.orders)

    @property
    def adds_up(self) -> bool:
        lines: Sequence[ScheduleLine | OrderLine] = [*self.schedules, *self.orders]
        return self.strangers == 0 and all(line.adds_up for line in lines)


def make_account(
    entries: Sequence[Entry],
    orders: Sequence[Order],
    effects: Iterable[Line],
    spans: Iterable[Span],
    outage: tuple[int, int],
) -> Account:
    """Compare what was due with what was done.

    Args:
        outage: begin and end of the outage (ms). A job catches up all its fires of the outage in one run: if that run
            is recovered, any of these fires may be done again.
    """
    done: dict[str, list[Line]] = defaultdict(list)
    for effect in effects:
        done[effect.job_id].append(effect)
    said: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        said[span.job_id].append(span)
    schedules = [_schedule(entry, done.pop(entry.job_id, []), said[entry.job_id], outage) for entry in entries]
    lines = [_order(order, done, said) for order in orders]
    return Account(schedules, lines, strangers=sum(map(len, done.values())))


def _again(effects: Sequence[Line], recoveries: int) -> tuple[int, int]:
    """Of one fire's effects beyond the first: how many are explained, and how many are not."""
    tokens = [effect.token for effect in effects]
    grew = sum(later > earlier for earlier, later in pairwise(tokens))
    explained = min(grew, recoveries)
    return explained, len(effects) - 1 - explained


def _schedule(entry: Entry, effects: Sequence[Line], said: Sequence[Span], outage: tuple[int, int]) -> ScheduleLine:
    due = set(entry.expected.fires)
    line = ScheduleLine(entry.package, entry.number, entry.expression, entry.zone, entry.lateness, due=len(due))
    done: Mapping[int, list[Line]] = defaultdict(list)
    for effect in effects:
        done[effect.fire_ms].append(effect)
    line.ran = len(due & done.keys())
    line.extra = len(done.keys() - due)

    def explains(span: Span, fire_ms: int) -> bool:
        return span.first_ms == fire_ms or all(outage[0] <= at_ms <= outage[1] for at_ms in (span.first_ms, fire_ms))

    for fire_ms, times in done.items():
        recoveries = sum(span.kind == "recovered" and explains(span, fire_ms) for span in said)
        again, doubled = _again(times, recoveries)
        line.again += again
        line.doubled += doubled

    explained: set[int] = set()
    for span in said:
        if span.kind not in EXPLAINED:
            continue
        meant = {fire_ms for fire_ms in due if span.first_ms <= fire_ms <= span.last_ms}
        if span.count is not None and span.count != len(meant):
            line.contradicted += abs(span.count - len(meant))
        line.contradicted += len(meant & explained) + len(meant & done.keys())
        explained |= meant
        setattr(line, span.kind, getattr(line, span.kind) + len(meant))
    line.lost = len(due - done.keys() - explained)
    return line


def _order(order: Order, done: dict[str, list[Line]], said: Mapping[str, Sequence[Span]]) -> OrderLine:
    line = OrderLine(order.order_id, order.place_ms, order.cancelled)
    for step in order.steps:
        effects = done.pop(step.job_id, [])
        wanted = not (order.cancelled and step.minute > CANCEL_MINUTE)
        if effects:
            line.ran.append(step.name)
            recoveries = sum(span.kind == "recovered" for span in said.get(step.job_id, ()))
            again, doubled = _again(effects, recoveries)
            line.again += again
            line.faults += _faults(step, effects, wanted=wanted, doubled=doubled)
        elif wanted:
            line.faults.append(f"{step.name} is lost")
        elif step.job_id in order.ended:
            line.stopped.append(step.name)
        else:
            line.faults.append(f"{step.name} vanished: the cancellation did not find it")
    if not order.steps:
        line.faults.append("it was never placed")
    return line


def _faults(step: Step, effects: Sequence[Line], *, wanted: bool, doubled: int) -> list[str]:
    faults: list[str] = []
    if not wanted:
        faults.append(f"{step.name} ran although the order was cancelled")
    if doubled:
        faults.append(f"{step.name} ran {doubled + 1} times")
    if not all(step.from_ms <= effect.fire_ms <= step.upto_ms for effect in effects):
        faults.append(f"{step.name} was due at another instant")
    return faults
