"""The verdict of `redsched chaos`: everything that may not happen is noticed, and what has a reason is not blamed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from redsched import Event, Reason, RunContext
from redsched.chaos import tasks
from redsched.chaos.clock import Clock
from redsched.chaos.evidence import COLUMNS, Evidence, Verdict
from redsched.chaos.place import Moment
from redsched.chaos.verdict import judge
from redsched.chaos.wishes import Change, Wish, make_wishes
from redsched.codec.values import pack_payload
from redsched.testing import ledger
from redsched.testing.ledger import Execution
from redsched.worker.executors.child_context import pack_context
from redsched.worker.executors.processes import ProcessPool, target_of

T0 = 1_000_000_000_000
"""Redis' time in ms at 0 s of the monotonic clock."""
CLOCK = Clock([(n / 10, T0 + n * 100) for n in range(-50, 1000)])


def run(job_id: str, fire_s: float, *, start: float | None = None, took: float = 0.1, **given: Any) -> Execution:
    start = fire_s if start is None else start
    fire_ms = T0 + round(fire_s * 1000)
    made = Execution(job_id, fire_ms, 1, round(start * 1000), 11, start, start + took, "done")
    return replace(made, **given)


def event(kind: str, job_id: str, at: float, fire_s: float | None = None, **given: Any) -> Event:
    zero = datetime.fromtimestamp(T0 / 1000, UTC)
    fire = None if fire_s is None else zero + timedelta(seconds=fire_s)
    return Event(kind=kind, job_id=job_id, at=zero + timedelta(seconds=at), fire_time=fire, **given)


def wish(kind: str = "now", *, changes: Sequence[Change] = (), **options: Any) -> Wish:
    made = Wish("job", kind, 0.0, options, changes=list(changes))
    made.status, made.asked = "accepted", (1.0, 1.01)
    return made


def periodic(fires: int = 4, **options: Any) -> Wish:
    """Fires at 2.0, 3.0, …"""
    made = wish("periodic", **options)
    made.interval_ms, made.fires, made.run_ms = 1000, fires, T0 + 2000
    return made


def verdict(
    wished: Wish, executions: Sequence[Execution] = (), events: Sequence[Event] = (), state: str | None = None,
    **more: Any,
) -> Verdict:  # fmt: skip
    stored = {} if state is None else {wished.id: state}
    given: dict[str, Any] = {"clock": CLOCK, "moments": [], "killed": {}, **more}
    return judge(Evidence([wished], executions, events, stored, **given))


def blamed(found: Verdict) -> dict[str, int]:
    assert list(found.problems) == list(COLUMNS)
    return {column: len(texts) for column, texts in found.problems.items() if texts}


def test_one_effect_of_one_job_is_as_it_should_be() -> None:
    found = verdict(wish(), [run("job", 1.005)], [event("done", "job", 1.1, 1.005, attempt=1)])
    assert blamed(found) == {}
    assert (found.accepted, found.executions, found.effects, found.again) == (1, 1, 1, 0)


def test_an_accepted_job_without_effect_and_reason_is_lost() -> None:
    assert blamed(verdict(wish())) == {"lost": 1}
    assert blamed(verdict(wish(), [run("job", 1.005, word="start", end=None)])) == {"lost": 1}


def test_a_job_whose_call_failed_may_be_there_or_not_but_not_twice() -> None:
    unsure = wish()
    unsure.status = "unknown"
    assert blamed(verdict(unsure)) == {}
    assert blamed(verdict(unsure, [run("job", 1.005)])) == {}
    assert blamed(verdict(unsure, [run("job", 1.005), run("job", 1.005, start=1.2)])) == {"doubled": 1}


def test_a_job_that_was_refused_or_never_asked_for_may_not_run() -> None:
    refused = wish()
    refused.status = "refused"
    assert blamed(verdict(refused, [run("job", 1.005)])) == {"unexplained": 1}
    assert blamed(verdict(refused, state="scheduled")) == {"unexplained": 1}
    assert blamed(verdict(wish(), [run("job", 1.005), run("stranger", 1.0)])) == {"unexplained": 1}


def test_a_second_execution_needs_a_reason_of_exactly_the_first() -> None:
    twice = [run("job", 1.005), run("job", 1.005, start=4.0, attempt=2)]
    assert blamed(verdict(wish(), twice)) == {"doubled": 1}
    found = verdict(wish(), twice, [event("recovered", "job", 3.5, 1.005, attempt=1, error="w1")])
    assert (blamed(found), found.again) == ({}, 1)
    assert blamed(verdict(wish(), twice, [event("recovered", "job", 3.5, 1.005, attempt=2)])) == {"doubled": 1}


def test_an_execution_after_the_last_one_was_settled_is_doubled() -> None:
    three = [run("job", 1.005, start=s, attempt=a) for s, a in ((1.005, 1), (4.0, 2), (6.0, 3))]
    told = [event("recovered", "job", 3.5, 1.005, attempt=1), event("done", "job", 4.2, 1.005, attempt=2)]
    assert blamed(verdict(wish(), three, told)) == {"doubled": 1}


def test_the_same_claim_executed_twice_is_doubled_whatever_was_told() -> None:
    twice = [run("job", 1.005), run("job", 1.005, start=1.5, token=1005, pid=12)]
    told = [event("recovered", "job", 1.4, 1.005, attempt=1)]
    assert blamed(verdict(wish(), twice, told)) == {"doubled": 1}


def test_at_most_once_allows_no_second_execution_after_a_recovery() -> None:
    twice = [run("job", 1.005), run("job", 1.005, start=4.0, attempt=2)]
    told = [event("recovered", "job", 3.5, 1.005, attempt=1)]
    assert blamed(verdict(wish(delivery="at_most_once"), twice, told)) == {"doubled": 1}


def test_an_effect_of_the_older_token_after_the_newer_one_began_is_counted_as_stale() -> None:
    twice = [run("job", 1.005, took=9.0), run("job", 1.005, start=4.0, attempt=2)]
    found = verdict(wish(), twice, [event("recovered", "job", 3.5, 1.005, attempt=1)])
    assert (blamed(found), found.stale) == ({}, 1)


def test_what_begins_before_its_time_is_early() -> None:
    later = wish("at")
    later.run_ms = T0 + 5000
    assert blamed(verdict(later, [run("job", 5.0, start=5.001)])) == {}
    assert blamed(verdict(later, [run("job", 5.0, start=4.9)])) == {"early": 1}
    assert blamed(verdict(later, [run("job", 4.0, start=4.001)])) == {"early": 1}, "fired for another instant"


def test_a_delay_is_counted_from_the_call_and_not_from_what_the_scheduler_made_of_it() -> None:
    delayed = wish("delayed")
    delayed.delay_ms = 3000
    assert blamed(verdict(delayed, [run("job", 4.005)])) == {}
    assert blamed(verdict(delayed, [run("job", 2.0)])) == {"early": 1}
    assert blamed(verdict(delayed, [run("job", 9.0)])) == {"unexplained": 1}


def test_a_retry_that_does_not_wait_is_early() -> None:
    def retried(wait: float) -> dict[str, int]:
        runs = [run("job", 1.005, word="raised"), run("job", 1.005, start=1.105 + wait, attempt=2)]
        return blamed(verdict(wish("retried"), runs, [event("retry", "job", 1.2, 1.005, attempt=1)]))

    assert retried(0.31) == {}
    assert retried(0.2) == {"early": 1}


def test_what_is_told_to_be_done_must_be_done() -> None:
    told = [event("done", "job", 1.1, 1.005, attempt=1)]
    assert blamed(verdict(wish(), [], told)) == {"lost": 1, "unexplained": 1}


def test_a_worker_without_the_lease_may_not_settle() -> None:
    twice = [run("job", 1.005, took=5.0), run("job", 1.005, start=4.0, attempt=2)]
    told = [event("recovered", "job", 3.5, 1.005, attempt=1), event("done", "job", 6.1, 1.005, attempt=1)]
    assert blamed(verdict(wish(), twice, told)) == {"unexplained": 1}


def test_an_attempt_that_another_run_held_back_is_not_used_up_so_its_number_is_settled_later() -> None:
    twice = [run("job", 1.005, took=5.0), run("job", 1.005, start=4.0)]
    told = [event("recovered", "job", 3.5, 1.005, attempt=1), event("done", "job", 4.1, 1.005, attempt=1)]
    assert blamed(verdict(wish(), twice, told)) == {}
    began_before = [run("job", 1.005, took=5.0), run("job", 1.005, start=3.0, word="stopped")]
    assert blamed(verdict(wish(), began_before, told)) == {"unexplained": 1}


@pytest.mark.parametrize("state", ["scheduled", "running"])
def test_a_job_that_comes_to_no_end_is_not_explained(state: str) -> None:
    assert blamed(verdict(wish(), [run("job", 1.005)], state=state)) == {"unexplained": 1}


def test_a_reason_must_be_possible() -> None:
    dead = [event("dead", "job", 3.0, 1.005, attempt=1, reason=Reason.AT_MOST_ONCE)]
    assert blamed(verdict(wish(delivery="at_most_once"), [], dead)) == {}
    assert blamed(verdict(wish(), [], dead)) == {"unexplained": 1}
    cancelled = [event("cancelled", "job", 2.0, reason=Reason.CANCELLED)]
    assert blamed(verdict(wish(), [], cancelled)) == {"unexplained": 1}, "it was not cancelled"
    asked = Change("cancel", 0.5, 1.5, 1.6, "done")
    assert blamed(verdict(wish(changes=[asked]), [], cancelled)) == {}


def test_a_paused_job_stays_only_if_somebody_paused_it() -> None:
    asked = Change("pause", 0.5, 1.5, 1.6, "done")
    assert blamed(verdict(wish("parked", changes=[asked]), state="paused")) == {}
    assert blamed(verdict(wish("parked"), state="paused")) == {"lost": 1}


def test_each_fire_of_a_periodic_job_counts() -> None:
    runs = [run("job", fire) for fire in (2.0, 3.0, 4.0, 5.0)]
    found = verdict(periodic(), runs)
    assert (blamed(found), found.fires) == ({}, 4)
    assert blamed(verdict(periodic(), runs[:2] + runs[3:])) == {"lost": 1}
    span = event("missed", "job", 4.5, 3.0, last_fire_time=event("x", "job", 0, 4.0).fire_time, count=2)
    coalesced = replace(span, kind="coalesced", reason=Reason.COALESCED)
    assert blamed(verdict(periodic(), [runs[0], runs[3]], [coalesced])) == {}
    assert blamed(verdict(periodic(), [*runs, run("job", 2.5)])) == {"unexplained": 1}


def test_a_fire_that_is_begun_twice_is_noticed() -> None:
    runs = [run("job", fire) for fire in (2.0, 3.0, 4.0, 5.0)]
    assert blamed(verdict(periodic(), [*runs, run("job", 2.0, start=2.5)])) == {"fired twice": 1}


def test_fires_that_are_due_together_are_one_claim_and_begin_again_together() -> None:
    lost = [run("job", fire, start=6.0 + n / 10, token=1, took=0.05) for n, fire in enumerate((2.0, 3.0, 4.0))]
    again = [run("job", fire, start=9.0 + n / 10, token=2, attempt=1 + (n == 0), took=0.05)
             for n, fire in enumerate((2.0, 3.0, 4.0, 5.0))]  # fmt: skip
    told = [event("recovered", "job", 8.5, 2.0, attempt=1)]
    assert blamed(verdict(periodic(), lost + again, told)) == {}
    assert blamed(verdict(periodic(), lost + again)) == {"doubled": 1, "fired twice": 2}


def test_after_a_cancellation_no_fire_is_missing_but_before_it_one_is() -> None:
    cancelled = periodic()
    cancelled.changes = [Change("cancel", 1, 3.5, 3.6, "done")]
    told = [event("cancelled", "job", 3.55)]
    assert blamed(verdict(cancelled, [run("job", 2.0), run("job", 3.0)], told)) == {}
    assert blamed(verdict(cancelled, [run("job", 3.0)], told)) == {"lost": 1}


def test_fires_during_a_pause_leave_no_trace_and_those_after_it_must() -> None:
    paused = periodic(6)
    paused.changes = [Change("pause", 1, 2.5, 2.6, "done"), Change("resume", 1, 4.5, 4.6, "done")]
    runs = [run("job", fire) for fire in (2.0, 5.0, 6.0, 7.0)]
    assert blamed(verdict(paused, runs)) == {}
    assert blamed(verdict(paused, runs[:-1])) == {"lost": 1}


def test_more_at_once_than_max_instances_is_noticed_until_the_lease_of_the_first_has_ended() -> None:
    runs = [run("job", 2.0, took=5.0), run("job", 3.0), run("job", 4.0), run("job", 5.0)]
    assert blamed(verdict(periodic(), runs)) == {"instances": 1}
    assert blamed(verdict(periodic(max_instances=2), runs)) == {}
    killed = [replace(runs[0], end=None, word="start", pid=7), *runs[1:], run("job", 2.0, start=6.0, attempt=2)]
    told = [event("recovered", "job", 5.5, 2.0, attempt=1)]
    assert blamed(verdict(periodic(), killed, told, killed={7: 2.9})) == {}
    assert blamed(verdict(periodic(), killed, told)) == {"instances": 1}, "it ran until its lease ended"
    only_once = periodic(delivery="at_most_once")
    dead = [event("dead", "job", 2.95, 2.0, attempt=1, reason=Reason.AT_MOST_ONCE)]
    assert blamed(verdict(only_once, runs, dead)) == {}, "it was stopped, and its lease ended"


def test_of_a_batch_that_was_lost_twice_the_first_loss_ends_the_first_claim() -> None:
    runs = [
        run("job", 2.0, start=3.1, took=0.1, token=1),
        run("job", 3.0, start=3.2, took=3.0, token=1),
        run("job", 2.0, start=4.5, took=0.5, token=2, attempt=2),
        run("job", 3.0, start=5.0, took=0.6, token=2),
        run("job", 3.0, start=8.0, token=3, attempt=2),
    ]
    told = [event("recovered", "job", 4.4, 2.0, attempt=1), event("recovered", "job", 7.5, 3.0, attempt=1)]
    assert blamed(verdict(periodic(2, coalesce=False), runs, told)) == {}


def test_recovery_is_measured_from_the_fault_that_hit_the_worker() -> None:
    runs = [run("job", 1.005, word="start", end=None), run("job", 1.005, start=4.0, attempt=2)]
    told = [event("recovered", "job", 3.5, 1.005, attempt=1, error="w1")]
    moments = [Moment(1.5, "w1"), Moment(2.5, "another")]
    assert verdict(wish(), runs, told, moments=moments).recoveries == [2.5]


def test_what_is_hit_again_before_it_starts_recovers_from_the_second_fault() -> None:
    runs = [run("job", 1.005, word="start", end=None), run("job", 1.005, start=6.0, attempt=3)]
    told = [
        event("recovered", "job", 3.5, 1.005, attempt=1, error="w1"),
        event("recovered", "job", 5.5, 1.005, attempt=2, error="w2"),
    ]
    moments = [Moment(1.5, "w1"), Moment(3.75, "w2")]
    assert verdict(wish(), runs, told, moments=moments).recoveries == [2.25]
    assert verdict(wish(), runs, told, moments=moments[:1]).recoveries == [4.5], "nothing was done to the second worker"


def test_waiting_for_a_place_of_max_instances_is_no_part_of_a_recovery() -> None:
    runs = [
        run("job", 2.0, word="start", end=None, pid=7),
        run("job", 3.0, start=4.4, took=1.5),
        run("job", 2.0, start=6.0, attempt=2),
    ]
    told = [event("recovered", "job", 4.4, 2.0, attempt=1, error="w1")]
    known = {"moments": [Moment(2.5, "w1")], "killed": {7: 2.5}}
    assert verdict(periodic(2), runs, told, **known).recoveries == []
    assert verdict(periodic(2, max_instances=2), runs, told, **known).recoveries == [3.5]


def test_after_an_outage_recovery_is_measured_from_its_end() -> None:
    delayed = wish("at")
    delayed.run_ms = T0 + 5000
    found = verdict(delayed, [run("job", 5.0, start=8.25)], moments=[Moment(8.0, None, 4.0)])
    assert found.recoveries == [0.25]


def test_recovery_in_a_child_process_is_counted_apart() -> None:
    runs = [run("job", 1.005, word="start", end=None), run("job", 1.005, start=5.0, attempt=2)]
    told = [event("recovered", "job", 3.5, 1.005, attempt=1, error="w1")]
    found = verdict(wish("process", executor="processpool"), runs, told, moments=[Moment(1.5, "w1")])
    assert (found.recoveries, found.in_children) == ([], [3.5])


def test_a_run_that_was_recovered_and_never_begun_does_not_disturb_the_measuring_of_an_outage() -> None:
    told = [event("recovered", "job", 3.5, 1.005, attempt=1), event("cancelled", "job", 4.0)]
    asked = wish(changes=[Change("cancel", 0.5, 1.5, 1.6, "done")])
    assert verdict(asked, [], told, moments=[Moment(3.0, None, 2.0)]).recoveries == []


def test_a_child_that_goes_on_after_its_worker_was_killed_is_as_one_whose_worker_was_stopped() -> None:
    runs = [run("job", 2.0, took=0.2, pid=7), run("job", 2.0, start=4.5, attempt=2, pid=8)]
    told = [event("recovered", "job", 4.4, 2.0, attempt=1)]
    killed = {7: 2.1}
    once = wish("process", executor="processpool")
    once.delay_ms = 1000
    assert blamed(verdict(once, runs, told, killed=killed)) == {}
    assert blamed(verdict(once, runs, killed=killed)) == {"doubled": 1}, "nothing was reported"
    late = [replace(runs[0], end=4.6), runs[1]]
    found = verdict(once, late, told, killed=killed)
    assert (blamed(found), found.stale) == ({}, 1)
    once.options["delivery"] = "at_most_once"
    assert blamed(verdict(once, late, told, killed=killed)) == {"doubled": 1}
    dead = [event("dead", "job", 4.4, 2.0, attempt=1, reason=Reason.AT_MOST_ONCE)]
    assert blamed(verdict(once, late[:1], dead, killed=killed)) == {}, "its effect is there, and it was not begun again"


def test_a_clock_that_stands_still_is_no_reason_to_call_things_early() -> None:
    stuck = Clock([(n / 10, T0 + min(n, 20) * 100 + max(0, n - 50) * 100) for n in range(100)])
    assert abs(stuck.latest_ms(4.0) - (T0 + 2000)) < 2
    assert abs(stuck.latest_ms(6.0) - (T0 + 3000)) < 2
    assert 5.4 < stuck.at(T0 + 2500) < 5.6


def test_the_same_seed_asks_for_the_same() -> None:
    first, second = make_wishes(5, 400, 4.0), make_wishes(5, 400, 4.0)
    assert first == second
    assert first != make_wishes(6, 400, 4.0)
    assert len(first) == 400
    assert len({wished.id for wished in first}) == 400
    assert {"periodic", "delayed", "process", "retried", "cancelled", "paused"} < {wished.kind for wished in first}
    assert {wished.at_most_once for wished in first} == {True, False}


def test_the_ledger_gives_back_what_was_written(tmp_path: Path) -> None:
    book = ledger.Ledger(tmp_path / "ledger")
    book.write("start", "job", 5, 1, 77)
    book.write("start", "other", 6, 1, 78)
    book.write("done", "job", 5, 1, 77)
    book.close()
    job, other = ledger.executions(ledger.read(tmp_path / "ledger"))
    assert (job.job_id, job.fire_ms, job.attempt, job.token, job.word) == ("job", 5, 1, 77, "done")
    assert job.end is not None and job.end >= job.start
    assert (other.word, other.end) == ("start", None)


def moved(outcome: str) -> Wish:
    """Due at 1.005, and moved to 3.0."""
    change = Change("move", 0.2, began=1.2, ended=1.3, by_ms=1700, outcome=outcome)
    change.to_ms = T0 + 3000
    return wish("moved", changes=[change])


def test_a_job_that_was_moved_runs_at_its_new_time() -> None:
    assert blamed(verdict(moved("done"), [run("job", 3.0)])) == {}
    assert blamed(verdict(moved("done"), [run("job", 1.005), run("job", 3.0)])) == {}, (
        "it had begun before it was moved"
    )
    assert blamed(verdict(moved("unknown"), [run("job", 1.005)])) == {}
    assert blamed(verdict(moved("done"), [run("job", 1.005)])) == {"lost": 1}
    assert blamed(verdict(moved("done"), [run("job", 2.0), run("job", 3.0)])) == {"unexplained": 1}


def test_a_job_that_was_moved_may_be_skipped_while_its_run_is_still_a_workers() -> None:
    skipped = event("skipped", "job", 3.01, 3.0, reason=Reason.MAX_INSTANCES)
    stopped = event("recovered", "job", 3.4, 1.005, attempt=1)
    again = run("job", 1.005, start=3.5, attempt=2)
    assert blamed(verdict(moved("done"), [again], [skipped, stopped])) == {}
    told, before = (event("done", "job", at, 1.005, attempt=1) for at in (3.2, 2.9))
    assert blamed(verdict(moved("done"), [run("job", 1.005)], [skipped, told])) == {}, "its end was reported too late"
    assert blamed(verdict(moved("done"), [run("job", 1.005)], [before, skipped])) == {"unexplained": 1}
    assert blamed(verdict(wish(), [], [event("skipped", "job", 1.01, 1.005, reason=Reason.MAX_INSTANCES)])) == {
        "unexplained": 1
    }


def test_a_move_that_was_refused_changes_nothing() -> None:
    assert blamed(verdict(moved("late"), [run("job", 1.005)])) == {}
    assert blamed(verdict(moved("late"), [run("job", 1.005), run("job", 3.0)])) == {"unexplained": 1}


def test_a_child_process_writes_into_the_ledger_of_its_worker(tmp_path: Path) -> None:
    path, worker = tmp_path / "ledger", 4711
    context = RunContext(
        "job", "job@5", "name", "work_in_process", "default", datetime.fromtimestamp(0.005, UTC), 2, 77, None, (), "w"
    )  # fmt: skip

    async def call() -> None:
        pool = ProcessPool(1)
        target = target_of(tasks.work_in_process)
        await pool.run(target, pack_payload([0.0], {}), pack_context(context, "UTC"))
        await pool.aclose()

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(tasks.LEDGER, str(path))
        patched.setenv(tasks.WORKER, str(worker))
        asyncio.run(call())
    [job] = ledger.executions(ledger.read(path))
    assert (job.job_id, job.fire_ms, job.attempt, job.token, job.pid, job.word) == ("job", 5, 2, 77, worker, "done")
