"""The verdict: what was accepted, by our own list; what was done, by the ledger; and what is said of the rest.

Pure. The scheduler's own word (the events stream, and what is stored) counts only for what did *not* happen, and for
why something happened again. Every fire that was accepted must have its effect in the ledger, or a reason; every
execution beyond the first needs a reason too, of exactly the execution before it.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from redsched import Event
from redsched.chaos.evidence import Evidence, Told, Verdict, recoveries
from redsched.chaos.wishes import RETRY_S, Wish
from redsched.testing.ledger import Execution

__all__ = ["judge"]

SLACK_MS = 5.0
"""By how much the clocks may be misjudged."""


def judge(evidence: Evidence) -> Verdict:
    """Compare what was asked for with what was done."""
    verdict = Verdict()
    done: dict[str, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        done[execution.job_id].append(execution)
    said: dict[str, list[Event]] = defaultdict(list)
    for event in evidence.events:
        said[event.job_id].append(event)
    verdict.executions = len(evidence.executions)
    verdict.effects = sum(execution.word == "done" for execution in evidence.executions)
    for wish in evidence.wishes:
        _Job(wish, done.pop(wish.id, []), Told(said[wish.id]), evidence, verdict).judge()
    for job_id in done:
        verdict.say("unexplained", f"{job_id} was executed, and was never requested")
    verdict.recoveries = recoveries(evidence)
    verdict.in_children = recoveries(evidence, in_children=True)
    return verdict


class _Job:
    """One job before the judge."""

    def __init__(
        self, wish: Wish, executions: list[Execution], told: Told, evidence: Evidence, verdict: Verdict
    ) -> None:
        self.wish = wish
        self.executions = executions
        self.told = told
        self.evidence = evidence
        self.clock = evidence.clock
        self.verdict = verdict
        self.state = evidence.stored.get(wish.id)
        self.by_fire: dict[int, list[Execution]] = defaultdict(list)
        for execution in executions:
            self.by_fire[execution.fire_ms].append(execution)

    def say(self, column: str, text: str) -> None:
        self.verdict.say(column, f"{self.wish.id}: {text}")

    def judge(self) -> None:
        wish, verdict = self.wish, self.verdict
        if wish.status in ("refused", "never"):
            verdict.refused += wish.status == "refused"
            if self.executions or self.state:
                self.say("unexplained", f"its request was {wish.status}, and it is there")
            return
        if wish.status == "unknown":
            verdict.unknown += 1
        else:
            verdict.accepted += 1
        for fire_ms, executions in self.by_fire.items():
            self._repeats(fire_ms, sorted(executions, key=lambda one: (one.token, one.start)))
        self._too_early()
        for fire_ms, attempt in self.told.done:
            if not any(one.attempt == attempt and one.word == "done" for one in self.by_fire.get(fire_ms, ())):
                self.say("unexplained", f"its fire {fire_ms}, attempt {attempt}, is reported as done, and is not")
        for fire_ms, attempt in self.told.done & self.told.recovered.keys():
            if not self._began_again(fire_ms, attempt):
                self.say("unexplained", f"its fire {fire_ms}, attempt {attempt}, was settled after its lease had ended")
        if self.state in ("scheduled", "running"):
            self.say("unexplained", f"it is still {self.state} when all is quiet")
        if wish.periodic:
            self._fires()
            self._instances()
        else:
            self._only_run()

    def _began_again(self, fire_ms: int, attempt: int) -> bool:
        """Whether what was done began after the lease of that attempt had ended.

        A run that another one held back, by blocking its worker, uses up no attempt: the next one has its number.
        """
        ended = self.clock.at(self.told.recovered[fire_ms, attempt].at.timestamp() * 1000)
        return any(
            one.attempt == attempt and one.word == "done" and one.start >= ended - SLACK_MS / 1000
            for one in self.by_fire.get(fire_ms, ())
        )

    def _repeats(self, fire_ms: int, executions: list[Execution]) -> None:
        """Each execution but the last needs a reason why another one followed."""
        again = self.told.again
        # Fires that were due together are one claim: if that is lost, those of them that were not settled begin again.
        lost = {
            one.token
            for (fire, attempt) in self.told.recovered
            for one in self.by_fire.get(fire, ())
            if one.attempt == attempt
        }
        for earlier, later in pairwise(executions):
            if self.wish.at_most_once and (fire_ms, earlier.attempt) in self.told.recovered:
                self.say("doubled", f"its fire {fire_ms} began again though at_most_once forbids it")
            elif earlier.token != later.token and ((fire_ms, earlier.attempt) in again or earlier.token in lost):
                self.verdict.again += 1
                self.verdict.stale += earlier.word == "done" and (earlier.end or 0.0) > later.start
            else:
                column = "fired twice" if self.wish.periodic and earlier.attempt == later.attempt == 1 else "doubled"
                self.say(
                    column,
                    f"its fire {fire_ms} has attempts {earlier.attempt} (token {earlier.token}, process {earlier.pid}) "
                    f"and {later.attempt} (token {later.token}, process {later.pid}); nothing was reported in between",
                )

    def _too_early(self) -> None:
        for one in self.executions:
            ahead_ms = one.fire_ms - self.clock.latest_ms(one.start)
            if ahead_ms > SLACK_MS:
                self.say("early", f"its fire {one.fire_ms} began {ahead_ms:.0f} ms before it was due")
        for fire_ms, attempt in self.told.retried:
            before = [o for o in self.by_fire.get(fire_ms, ()) if o.attempt == attempt and o.word == "raised"]
            after = [o for o in self.by_fire.get(fire_ms, ()) if o.attempt == attempt + 1]
            for failed in before:
                for next_one in after:
                    waited = next_one.start - (failed.end or failed.start)
                    if waited < RETRY_S - SLACK_MS / 1000:
                        self.say("early", f"attempt {attempt + 1} began {waited:.3f} s after the one before had failed")

    def _requested(self, what: str) -> bool:
        return any(change.what == what and change.began is not None for change in self.wish.changes)

    def _only_run(self) -> None:
        wish, verdict = self.wish, self.verdict
        move = next((change for change in wish.changes if change.to_ms is not None), None)
        for one in self.executions:
            if move is None or one.fire_ms != move.to_ms:
                self._due_when_asked(one)
            elif move.outcome == "late":
                self.say("unexplained", f"it fired for {one.fire_ms}, though moving it there was refused")
        wanted = self.executions
        if move is not None and move.outcome == "done":
            # It may have begun before it was moved; the time that it was moved to counts.
            wanted = [one for one in wanted if one.fire_ms == move.to_ms]
        if any(one.word == "done" for one in wanted):
            return
        paused = self.state == "paused" and self._requested("pause")
        why = "paused" if paused else self.told.whole() or next((self.told.why(f) for f in self._fires_told()), None)
        if why is None and wish.status == "unknown" and not self.executions and not self.told.anything:
            return
        if why is None:
            trace = f"; it was begun {len(self.executions)} times" if self.executions else ""
            self.say("lost", f"no effect, and no reason (it is {self.state or 'not stored'}){trace}")
        elif not self._plausible(why):
            self.say("unexplained", f"it ended as {why!r}, for which there is no cause")
        else:
            verdict.reasons[why] += 1

    def _fires_told(self) -> list[int]:
        return [first for _, first, _, _ in self.told.ended]

    def _plausible(self, why: str) -> bool:
        """Whether a reason can be true of this job."""
        wish = self.wish
        kind, _, reason = why.partition(": ")
        match kind, reason:
            case "paused", _:
                return True
            case (("cancelled" | "removed"), _):
                return self._requested("cancel")
            case "missed", "misfire":
                return "misfire_grace_time" in wish.options
            case "dead", "at_most_once":
                return wish.at_most_once
            case "dead", "recoveries_used_up":
                return len(self.told.recovered) >= 3
            case "dead", ("attempts_used_up" | "task_failed"):
                # An attempt that died with its worker is used up as well.
                return wish.kind == "doomed" or (wish.kind == "retried" and bool(self.told.recovered))
            case "skipped", "max_instances" if not wish.periodic:
                return self._held_when_moved()
            case (("skipped" | "coalesced" | "missed"), _):
                return wish.periodic
            case _:
                return False

    def _held_when_moved(self) -> bool:
        """Whether the job was moved while its run was a worker's, and that had not ended at the new instant."""
        to_ms = next((change.to_ms for change in self.wish.changes if change.to_ms is not None), None)
        if to_ms is None:
            return False
        # The scheduler's word, not the ledger's: a run is its worker's until it is settled, or its lease ended.
        return any(fire_ms != to_ms and at_ms >= to_ms for (fire_ms, _), at_ms in self.told.over.items())

    def _due_when_asked(self, one: Execution) -> None:
        wish, clock = self.wish, self.clock
        if wish.run_ms is not None:
            low = high = float(wish.run_ms)
        else:
            # A request that was sent again was stored at any time during the call.
            low = clock.latest_ms(wish.asked[0]) + wish.delay_ms - self._imprecise_ms
            high = clock.latest_ms(wish.asked[1]) + wish.delay_ms
        if not low - SLACK_MS <= one.fire_ms <= high + SLACK_MS:
            column = "early" if one.fire_ms < low else "unexplained"
            self.say(column, f"it was due between {low:.0f} and {high:.0f}, and fired for {one.fire_ms}")

    @property
    def _imprecise_ms(self) -> float:
        """By how much `latest_ms` may be later than the truth: a sample's way to Redis and back, under load."""
        return 50.0

    def _fires(self) -> None:
        """Each fire of the grid."""
        wish, verdict = self.wish, self.verdict
        assert wish.run_ms is not None
        grid = [wish.run_ms + number * wish.interval_ms for number in range(wish.fires)]
        for fire_ms in self.by_fire.keys() - set(grid):
            self.say("unexplained", f"it fired for {fire_ms}, which is not on its grid")
        from_ms = self.clock.latest_ms(wish.asked[1])
        due = [fire_ms for fire_ms in grid if fire_ms > from_ms] if wish.status == "accepted" else []
        verdict.fires += len(due)
        open_: list[int] = []
        last_known = 0
        for fire_ms in due:
            if any(one.word == "done" for one in self.by_fire.get(fire_ms, ())):
                last_known = fire_ms
            elif (why := self.told.why(fire_ms)) is not None:
                last_known = fire_ms
                if self._plausible(why):
                    verdict.reasons[why] += 1
                else:
                    self.say("unexplained", f"its fire {fire_ms} ended as {why!r}, for which there is no cause")
            else:
                open_.append(fire_ms)
        for fire_ms in open_:
            why = self._ended_by_change(fire_ms, last_known)
            if why is None:
                begun = len(self.by_fire.get(fire_ms, ()))
                self.say("lost", f"its fire {fire_ms} has no effect and no reason; it was begun {begun} times")
            else:
                verdict.reasons[why] += 1

    def _ended_by_change(self, fire_ms: int, last_known: int) -> str | None:
        """A cancellation ends what has not ended; a pause takes away what has not begun, up to the resume."""
        if self.told.whole() is not None and self._requested("cancel"):
            if fire_ms > last_known or self.by_fire.get(fire_ms):
                return "cancelled"
            return None
        if self.state == "paused" and self._requested("pause") and fire_ms > last_known:
            return "paused"
        pause = next((change for change in self.wish.changes if change.what == "pause"), None)
        resume = next((change for change in self.wish.changes if change.what == "resume"), None)
        if pause is None or pause.began is None or self.by_fire.get(fire_ms):
            return None
        if resume is not None and resume.ended is not None and fire_ms > self.clock.latest_ms(resume.ended):
            return None
        # Due before the pause, and not begun by then: that is what the pause took away, unless a later fire was begun.
        paused_ms = self.clock.latest_ms(pause.ended or pause.began)
        later = [fire for fire in self.by_fire if fire_ms < fire <= paused_ms]
        return None if later else "paused"

    def _instances(self) -> None:
        spans: list[tuple[float, int]] = []
        # By token: the fires of a batch are one claim, and the report names the first of them that was not settled.
        # Each later claim that is lost may name a later one, which the first had begun as well.
        lost: dict[int, float] = {}
        for one in self.executions:
            told = self.told.lost.get((one.fire_ms, one.attempt))
            if told is not None:
                ended = self.clock.at(told.at.timestamp() * 1000)
                lost[one.token] = min(ended, lost.get(one.token, ended))
        over = max((one.end or one.start for one in self.evidence.executions), default=0.0)
        for one in self.executions:
            end = one.end if one.end is not None else self.evidence.killed.get(one.pid, over)
            if one.token in lost:  # from then on it does not count
                end = min(end, lost[one.token])
            if end > one.start:
                spans += [(one.start, 1), (end, -1)]
        running = most = 0
        for _, step in sorted(spans):
            running += step
            most = max(most, running)
        if most > self.wish.max_instances:
            self.say("instances", f"{most} at once, and max_instances is {self.wish.max_instances}")
