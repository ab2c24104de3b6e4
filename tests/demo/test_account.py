"""The account, with ledgers that are made up: each way in which it must not add up is one."""

import os
from dataclasses import replace

import pytest

from redsched.demo.account import Account, Span, make_account
from redsched.demo.entries import Entry
from redsched.demo.expected import Expectation
from redsched.demo.pizzeria import Order, Step
from redsched.demo.report import verdict
from redsched.testing.ledger import Ledger, Line, read

MINUTE = 60_000
FIRES = tuple(minute * MINUTE for minute in range(1, 7))
ENTRY = Entry("munin", 1, "* * * * *", "UTC", coalesce=True, grace_s=None, expected=Expectation(FIRES))
OUTAGE = (3 * MINUTE, 5 * MINUTE)


def effect(fire_ms: int, *, token: int = 0, attempt: int = 1, job_id: str = "munin-1") -> Line:
    return Line("done", job_id, fire_ms, attempt, token or fire_ms, 1, 0.0)


def span(kind: str, first: int, last: int, count: int | None = None, job_id: str = "munin-1") -> Span:
    return Span(kind, job_id, first * MINUTE, last * MINUTE, count)


def account(effects: list[Line], *spans: Span, orders: list[Order] | None = None) -> Account:
    return make_account([ENTRY], orders or [], effects, spans, OUTAGE)


ALL = [effect(fire_ms) for fire_ms in FIRES]


def test_all_ran() -> None:
    made = account(ALL)
    assert made.adds_up
    assert (made.total("due"), made.total("ran")) == (6, 6)
    assert verdict(made).startswith("It adds up: 6 fires due")


def test_what_is_coalesced_or_missed_has_its_reason() -> None:
    made = account([ALL[0], ALL[4], ALL[5]], span("coalesced", 3, 4, 2), span("missed", 2, 2, 1))
    assert made.adds_up
    assert (made.total("ran"), made.total("coalesced"), made.total("missed")) == (3, 2, 1)


def test_a_fire_that_nobody_speaks_of_is_lost() -> None:
    made = account([*ALL[:2], *ALL[3:]])
    assert not made.adds_up
    assert made.total("lost") == 1
    assert "NOT add up" in verdict(made)


def test_a_fire_that_ran_twice_without_a_reason_is_doubled() -> None:
    made = account([*ALL, effect(FIRES[2], token=10**9)])
    assert not made.adds_up
    assert made.total("doubled") == 1


def test_a_fire_that_ran_again_since_its_worker_died_is_explained() -> None:
    made = account([*ALL, effect(FIRES[2], token=10**9, attempt=2)], span("recovered", 3, 3, 1))
    assert made.adds_up
    assert (made.again, made.total("doubled")) == (1, 0)


@pytest.mark.parametrize(
    ("again", "said"),
    [
        pytest.param([effect(FIRES[1], token=10**9)] * 2, [span("recovered", 2, 2, 1)], id="same token"),
        pytest.param([effect(FIRES[1], token=1)], [span("recovered", 2, 2, 1)], id="a lower token"),
        pytest.param([effect(FIRES[1], token=10**9)], [span("recovered", 1, 1, 1)], id="another fire was recovered"),
        pytest.param(
            [effect(FIRES[1], token=10**9)],
            [span("recovered", 2, 2, 1, job_id="other")],
            id="another job was recovered",
        ),
    ],
)
def test_a_recovery_explains_only_what_it_is_the_reason_of(again: list[Line], said: list[Span]) -> None:
    made = account([*ALL, *again], *said)
    assert not made.adds_up
    assert made.total("doubled") == 1


def test_a_recovered_catch_up_may_do_any_of_its_fires_again() -> None:
    made = account([*ALL, effect(FIRES[4], token=10**9)], span("recovered", 3, 3, 1))
    assert made.adds_up
    assert made.again == 1


def test_what_was_never_due_is_extra() -> None:
    made = account([*ALL, effect(FIRES[-1] + MINUTE)])
    assert not made.adds_up
    assert made.total("extra") == 1


def test_what_ran_although_it_is_said_to_be_missed_contradicts() -> None:
    made = account(ALL, span("missed", 2, 2, 1))
    assert not made.adds_up
    assert made.total("contradicted") == 1


def test_a_wrong_count_contradicts() -> None:
    made = account([ALL[0], *ALL[3:]], span("coalesced", 2, 3, 7))
    assert not made.adds_up
    assert made.total("contradicted") == 5


def test_an_effect_of_an_unknown_job_does_not_add_up() -> None:
    made = account([*ALL, effect(FIRES[0], job_id="stranger")])
    assert not made.adds_up
    assert made.strangers == 1


# -- orders -----------------------------------------------------------------------------------------------------------

STEPS = [
    Step(name, name, (60 + minute) * MINUTE, (60 + minute) * MINUTE + 40, minute)
    for name, minute in (("check", 0), ("queue", 5), ("start", 15), ("quality", 25), ("ready", 35))
]
DONE = [effect(step.from_ms + 20, job_id=step.job_id) for step in STEPS]


def order(*, cancelled: bool = False, ended: tuple[str, ...] = ()) -> Order:
    return Order("order-1", 60 * MINUTE, cancelled=cancelled, steps=list(STEPS), ended=list(ended))


def test_an_order_of_which_all_steps_ran() -> None:
    assert account([*ALL, *DONE], orders=[order()]).adds_up


def test_a_cancelled_order_of_which_the_last_two_did_not_run() -> None:
    made = account([*ALL, *DONE[:3]], orders=[order(cancelled=True, ended=("quality", "ready"))])
    assert made.adds_up
    assert made.orders[0].stopped == ["quality", "ready"]


@pytest.mark.parametrize(
    ("placed", "done", "fault"),
    [
        pytest.param(order(), DONE[:4], "ready is lost", id="lost"),
        pytest.param(order(), [*DONE, replace(DONE[1], token=10**9)], "queue ran 2 times", id="doubled"),
        pytest.param(order(), [replace(DONE[0], fire_ms=1), *DONE[1:]], "check was due at another instant", id="when"),
        pytest.param(
            order(cancelled=True, ended=("ready",)), DONE[:4], "quality ran although the order was cancelled", id="ran"
        ),
        pytest.param(
            order(cancelled=True, ended=("ready",)), DONE[:3],
            "quality vanished: the cancellation did not find it", id="vanished",
        ),
        pytest.param(
            order(cancelled=True, ended=("quality", "ready")), DONE[:2], "start is lost", id="cancelled, lost"
        ),
        pytest.param(Order("order-1", 0), [], "it was never placed", id="never placed"),
    ],
)  # fmt: skip
def test_an_order_that_is_wrong_is_told(placed: Order, done: list[Line], fault: str) -> None:
    made = account([*ALL, *done], orders=[placed])
    assert not made.adds_up
    assert made.orders[0].faults == [fault]


def test_the_ledger_gives_back_what_was_written(tmp_path) -> None:
    path = tmp_path / "ledger"
    first, second = Ledger(str(path)), Ledger(str(path))
    for ledger, line in ((first, ALL[0]), (second, DONE[0]), (first, ALL[1])):
        ledger.write("done", line.job_id, line.fire_ms, line.attempt, line.token)
    first.close()
    second.close()
    lines = read(path)
    assert [replace(line, pid=1, at=0.0) for line in lines] == [ALL[0], DONE[0], ALL[1]]
    assert {line.pid for line in lines} == {os.getpid()}
