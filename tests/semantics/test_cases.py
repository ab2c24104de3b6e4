"""redsched does what APScheduler 3.11.3 was seen to do, case by case, but for what README.md excepts, by rule."""

import importlib.util
import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from .harness import PlanDriver, expectation, has_microseconds, ms, play, span_of

# The oracle of the DST tests, which shares nothing with redsched; by its path, as tests/ itself is no package.
_spec = importlib.util.spec_from_file_location("brute", Path(__file__).parents[1] / "schedules" / "brute.py")
brute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(brute)

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())

APS_BUG = "APScheduler loses a fire after a gap (tag aps_bug)"
MICROSECONDS = "has microseconds: redsched counts milliseconds"
DIALECT = "another cron dialect (K-001..K-007): 0 is Sunday, day and weekday are ORed, ranges wrap"
NO_FIRST_TIME = "a schedule without a first time is refused, not stored as if paused"
GAP = "DST gap: the rule gives another instant"
FOLD = "DST fold: the rule gives one run, not two"


def instants_of(case):
    """Every fire that the case names, in order."""
    lists = ("ran", "missed", "max_instances_skipped", "coalesced_away")
    named = {ms(each) for wake in case["expected"] for name in lists for each in wake[name]}
    named |= {ms(wake["next_run"]) for wake in case["expected"] if wake["next_run"]}
    return sorted(named | {ms(case["first_run"])})


@cache
def offset_in(zone):
    """Its offset at each minute. The cases' zones change at quarters of an hour: it is asked for once in each."""
    ask = cache(brute.zone_offset(zone))
    return lambda minute: ask(minute - minute % 15)


@cache
def clock_in(zone, low, high):
    return brute.Clock(offset_in(zone), low, high)


def fires_by_our_rule(case, fold):
    """What the rule gives during the case, found by walking its minutes."""
    low, high = span_of(case)
    start, last = ms(case["start"]), instants_of(case)[-1]
    fires = clock_in(case["timezone"], low, high).fires(case["trigger"]["expr"], "shift", fold)
    return [fire * 60_000 for fire in fires if start <= fire * 60_000 <= last]


def reason_not_to_apply(case):
    """Why README.md excepts the case, or None. A rule: nothing here knows a case by its result in redsched."""
    if case["id"].startswith("K-") and int(case["id"][2:]) <= 7:
        return DIALECT
    if "aps_bug" in case["tags"]:
        return APS_BUG
    if has_microseconds(case):
        return MICROSECONDS
    rescheduled_to_none = any(op["op"] == "reschedule" and op["next_run"] is None for op in case.get("op_results", ()))
    if case["first_run"] is None or rescheduled_to_none:
        return NO_FIRST_TIME
    if "dst" in case["tags"] and case["trigger"]["type"] == "cron":
        recorded = instants_of(case)
        if recorded == fires_by_our_rule(case, "first"):
            return None
        return FOLD if recorded == fires_by_our_rule(case, "both") else GAP
    return None


REASONS = {case["id"]: reason_not_to_apply(case) for case in CASES}
APPLICABLE = [case for case in CASES if REASONS[case["id"]] is None]
FOLDS = [case for case in CASES if REASONS[case["id"]] == FOLD]


def test_the_cases_are_excepted_by_rule_and_so_many_of_each():
    counts = Counter(REASONS.values())
    for reason, number in counts.items():
        print(f"{number:4} {reason or 'apply'}")
    assert len(CASES) == 159
    assert counts == {
        None: 133,
        DIALECT: 2,
        APS_BUG: 3,
        MICROSECONDS: 7,
        NO_FIRST_TIME: 1,
        GAP: 6,
        FOLD: 7,
    }


@pytest.mark.parametrize("case", APPLICABLE, ids=[case["id"] for case in APPLICABLE])
def test_an_applicable_case_gives_what_apscheduler_gave(case):
    assert play(case, PlanDriver()) == expectation(case)


@pytest.mark.parametrize("case", FOLDS, ids=[case["id"] for case in FOLDS])
def test_a_fold_gives_what_apscheduler_gave_with_dst_fold_both(case):
    assert play(case, PlanDriver(dst_fold="both")) == expectation(case)
