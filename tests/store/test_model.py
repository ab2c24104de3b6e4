"""The real scripts beside a small model of them, under any order of calls.

The model knows which jobs must be there, who holds which run in which attempt and until when, and what is due. It
foretells what each call answers, as far as that follows from this; after each step the invariants of the keys hold,
no run has two holders, and no accepted job is gone.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

import msgpack
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from redsched.errors import ConflictingIdError, JobLookupError
from redsched.store.queries import clear
from redsched.store.store import Store
from redsched.store.transitions import LeftBehindError, claimed_rows
from redsched.testing import fresh_prefix
from tests.invariants import check
from tests.store.raw import HOUR, LIMITS, ONCE, Claim, Raw, periodic, row

IDS = ("a", "b")
WORKERS = ("w1", "w2")
NEED, KNOWING = "task:task", "w1"
"""Only one of the workers looks at what is parked."""
PLACES = (f"{NEED} default", f"{NEED} other")
SERVED: bytes = msgpack.packb({"default": [PLACES[0]], "other": [PLACES[1]]})
CLIENTS = ("c1", "c2")
ENDS = ("done", "dead", "missed", "cancelled")
ids, workers = st.sampled_from(IDS), st.sampled_from(WORKERS)
modes = st.sampled_from(["add", "keep", "replace"])
tags = st.sampled_from([None, ["t"], ["t", "u"]])
APP, CODES = "app", ("old", "new")
"""The owner of declarations, and two sets of these."""
STEPS = int(os.environ.get("MODEL_STEPS", "3000"))
"""How many calls are made; CONTRIBUTING.md tells of the long form."""
EXAMPLE_STEPS = 30
STEP = 50
"""Fires of periodic jobs lie beside those of manual runs, which are at multiples of 100 ms."""


@dataclass(slots=True)
class Held:
    """The model's view of a claim."""

    worker: str
    claim: Claim
    until_ms: int
    generation: int


class Scheduler(RuleBasedStateMachine):
    """Two ids, two workers, one clock that stands still but where a rule moves it."""

    url = ""
    count: ClassVar[Counter[str]] = Counter()
    """How often a path was taken that only some orders of calls come to."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store(self.url, fresh_prefix(), limits=LIMITS)
        self.raw = Raw(self.store)
        # Far enough ahead that Redis' clock does not overtake it while a slow machine makes an example's calls.
        self.now = self.do(self.raw.now()) // 100 * 100 + HOUR
        self._stop_the_clock()
        self.held: dict[str, Held] = {}
        self.stale: list[Held] = []
        self.plans: list[tuple[str, list[Any]]] = []
        self.expected: dict[str, str] = {}
        self.generation: dict[str, int] = dict.fromkeys(IDS, 0)
        self.last_poll: dict[str, tuple[Any, Any]] = {}
        self.fences: set[int] = set()
        self.entries: dict[str, bytes] = {}
        """What is kept of the declaration of a job."""
        self.numbers: dict[str, int] = {}
        """Of each set of declarations."""
        self.declarers: dict[tuple[int, str], int] = {}
        """Generation and process ("" = one that has left) -> when it was seen."""
        self.vouched: dict[str, tuple[int, str]] = {}
        """Until when the process of a worker vouches for it, and which run blocks it."""
        self.attempts: dict[str, tuple[int, int]] = {}
        """Of a run that may begin again: the job's generation, and the attempts that were used up."""
        self.wishes: set[tuple[str, str]] = set()
        """Jobs that are waited for, and by which client."""
        self.ended: set[str] = set()
        """Runs whose end a client has seen, or a worker reported."""

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    def _stop_the_clock(self) -> None:
        """Let it stand still at `now`."""
        self.do(self.raw.command("HSET", self.raw.keys.clock, "now_us", self.now * 1000))

    def teardown(self) -> None:
        self.do(clear(self.store))
        self.do(self.store.close())
        self.runner.close()

    @initialize(tags=tags, most=st.sampled_from([1, 2]), known=st.booleans())
    def something_runs(self, tags: list[str] | None, most: int, known: bool) -> None:
        """What a step does is worth little where nothing is under way."""
        self.schedule_once("a", "add", 0, tags, most)
        self.schedule_periodic("b", "add", known, tags, most)
        self.time_passes_and_a_worker_polls(100, "w1", False)

    # -- the client -------------------------------------------------------------------------------------------------

    def _scheduled(self, one: list[Any], kind: str) -> None:
        job_id, mode = one[:2]
        there = self.do(self.raw.job(job_id))
        is_there, is_dead = "record" in there, there.get("state") == "dead"
        foretold = "added"
        if is_there:
            foretold = "replaced" if is_dead or mode == "replace" else {"add": "refused", "keep": "kept"}[mode]
        behind = self._behind(there) and mode == "replace"
        try:
            (status,) = self.do(self.raw.shard.schedule([one]))
            assert not behind, f"{job_id} is replaced, and nothing is said of its fires: {there}"
        except ConflictingIdError:
            status = "refused"
        except LeftBehindError:
            assert behind, f"{job_id} leaves nothing behind: {there}"
            (status,) = self.do(self.raw.shard.schedule([[*one, [False, [["replaced", 1, 2, 2]]]]]))
            assert ("dropped", job_id, "replaced") in self.do(self.raw.events())
        assert status == foretold, f"{job_id}, {mode}: {status}; before {there}"
        if status == "refused":
            return
        if status != "kept":
            self.expected[one[0]] = kind
            self.generation[one[0]] += 1

    def _behind(self, job: dict[str, str]) -> bool:
        """Whether a periodic job has fires that have come and were not claimed, or were hidden by a pause."""
        since = job.get("paused_ms", job.get("paused_from")) if job.get("state") == "paused" else job.get("next_ms")
        return "periodic" in job and job.get("state") != "dead" and since is not None and int(since) <= self.now

    @rule(job_id=ids, mode=modes, delay=st.sampled_from([0, 100, 6000, None]), tags=tags, most=st.sampled_from([1, 2]))
    def schedule_once(self, job_id: str, mode: str, delay: int | None, tags: list[str] | None, most: int) -> None:
        fields = ["max_instances", most] if most > 1 else None
        self._scheduled(row(job_id, mode, delay=delay, tags=tags, fields=fields), "once")

    @rule(job_id=ids, mode=modes, known=st.booleans(), tags=tags, most=st.sampled_from([1, 2]))
    def schedule_periodic(self, job_id: str, mode: str, known: bool, tags: list[str] | None, most: int) -> None:
        first = self.now + STEP
        fields = ["max_instances", most] if most > 1 else []
        one = periodic(job_id, first, first + 1000 if known else None, mode, tags=tags, fields=fields)
        self._scheduled(one, "periodic")

    @rule(job_id=ids, how=st.sampled_from(["cancel", "remove"]))
    def cancel(self, job_id: str, how: str) -> None:
        before = self._declared_ids()
        self.do(self.raw.shard.cancel(ids=[job_id], how=how))
        self._removed({job_id} & before)
        self._ended(job_id)

    @rule(tag=st.sampled_from(["t", "u"]))
    def cancel_tag(self, tag: str) -> None:
        before = self._declared_ids()
        for job_id in self.do(self.raw.shard.cancel(tag=tag)):
            self._removed({job_id} & before)
            self._ended(job_id)

    def _ended(self, job_id: str) -> None:
        self.expected.pop(job_id, None)
        self.generation[job_id] += 1

    @rule(job_id=ids)
    def pause(self, job_id: str) -> None:
        if job_id in self.expected:
            self.do(self._try(self.raw.shard.pause(job_id)))

    @rule(job_id=ids)
    def run_now(self, job_id: str) -> None:
        if job_id in self.expected:
            self.do(self._try(self.raw.shard.run(job_id)))

    @rule(
        job_id=ids,
        what=st.sampled_from(["resume", "reschedule", "record", "queue", "tags", "pause", "once", "periodic"]),
    )
    def modify(self, job_id: str, what: str) -> None:
        if job_id not in self.expected:
            return
        fields = self.do(self.raw.job(job_id))
        again = [self.now + STEP, -1]
        change: dict[str, Any] = {"kind": "modified", "when": False}
        if what == "resume":
            if fields.get("state") != "paused":
                return
            change = {"kind": "resumed", "when": again if "periodic" in fields else "saved"}
        elif what == "reschedule":
            change["when"] = again
        elif what == "once":
            change |= {"when": [self.now + 100, 0], "unset": ["periodic"]}
        elif what == "periodic":
            change |= {"when": again, "set": ["periodic", 1]}
        elif what == "record":
            change["record"] = b"changed"
        elif what == "queue":
            change["queue"] = "other" if fields.get("queue", "default") == "default" else "default"
        elif what == "tags":
            change["tags"] = ["u"]
        else:
            change["when"] = "pause"
        if self.do(self._try(self.raw.shard.modify(job_id, int(fields.get("version", 0)), change))):
            self.generation[job_id] += what in ("resume", "reschedule", "once", "periodic")
            if what in ("once", "periodic"):
                self.expected[job_id] = what
            parked = {run for run in self._parked() if run.partition("@")[0] == job_id}
            stays = {run for run in parked if run == job_id or "record" not in self.do(self.raw.run(run))}
            assert not stays, f"{job_id} has a new record, and {stays} still wait for what the old one needed"

    @rule()
    def requeue(self) -> None:
        dead = list(self.do(self.raw.scores(self.raw.keys.dead)))
        assert self.do(self.raw.shard.requeue(dead)) == dead
        for run in dead:
            self.attempts.pop(run, None)  # it has all its attempts again

    @staticmethod
    async def _try(call: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await call
        except JobLookupError:
            return None

    @rule(job_id=ids, client=st.sampled_from(["", *CLIENTS]))
    def ask_how_it_ended(self, job_id: str, client: str) -> None:
        state = self._asked(job_id, client)
        there = self.do(self.raw.job(job_id))
        if there.get("state") == "dead":
            assert state == "dead"
        elif "record" in there:
            assert state == "open"
            if client:
                self.wishes.add((job_id, client))

    def _asked(self, one: str, client: str = "") -> str:
        [answer], *_ = self.do(self.raw.shard.outcome([one], client))
        return str(answer[0].decode())

    @rule()
    def a_request_is_sent_again(self) -> None:
        script, _ = self.raw.sent
        if "request" in script.args:
            before = self.do(self.raw.dump())
            assert self.do(self.raw.resend()) == self.raw.answered
            assert self.do(self.raw.dump()) == before

    # -- what the code declares -------------------------------------------------------------------------------------

    @rule(job_id=ids, known=st.booleans(), once=st.booleans(), code=st.sampled_from(CODES), tags=tags)
    def declare_job(self, job_id: str, known: bool, once: bool, code: str, tags: list[str] | None) -> None:
        """A start that found no job, and this entry, or (not known) another one that is there no more."""
        there, entry = self.do(self.raw.job(job_id)), self.entries.get(job_id)
        is_there, is_over = "record" in there, there.get("state") == "dead"
        fields: list[Any] = ["application", APP]
        one = row(job_id, "declare", delay=100, tags=tags, fields=fields)
        if not once:
            one = periodic(job_id, self.now + STEP, None, "declare", tags=tags, fields=fields)
        new = msgpack.packb({"generation": 1, "digest": code, "schedule": code, "state": ""}, use_bin_type=False)
        read = entry if known else b"of a process that was slower"
        (status,) = self.do(self.raw.shard.schedule([[*one, False, [APP, new, read or False]]]))
        is_refused = (is_there and not is_over) or (not known)
        assert status == ("changed" if is_refused else "replaced" if is_there else "added"), f"{job_id}: {there}"
        if not is_refused:
            self.entries[job_id] = new
            self.expected[job_id] = "once" if once else "periodic"
            self.generation[job_id] += 1

    def _declared_ids(self) -> set[str]:
        jobs = {job_id: self.do(self.raw.job(job_id)) for job_id in IDS}
        return {job_id for job_id, job in jobs.items() if "application" in job and "record" in job}

    def _removed(self, ids: set[str]) -> None:
        """A job that an operator ended stays away until it is declared differently."""
        for job_id in ids & self.entries.keys():
            stored = self.do(self.raw.command("HGET", self.raw.keys.declared(APP), job_id))
            was, now = (msgpack.unpackb(data, raw=True) for data in (self.entries[job_id], stored))
            assert now == {**was, b"state": b"removed"}
            self.entries[job_id] = stored

    @invariant()
    def what_is_known_of_a_declaration_outlasts_its_job(self) -> None:
        key = self.raw.keys.declared(APP)
        assert {job_id: self.do(self.raw.command("HGET", key, job_id)) for job_id in self.entries} == self.entries

    @rule(
        process=st.sampled_from(["p1", "p2"]),
        code=st.sampled_from(CODES),
        how=st.sampled_from(["start", "start", "alive", "leave", "look"]),
    )
    def announce(self, process: str, code: str, how: str) -> None:
        """A set of declarations keeps its number, also where an older one starts again after a newer one."""
        rows = [[APP, "" if how == "look" else code, [code] if how == "start" else False]]
        [[_, number, others]] = self.do(self.raw.shard.declare(process, how, rows))
        if how == "start":
            self.numbers.setdefault(code, len(self.numbers) + 1)
        mine = 0 if how == "look" else self.numbers.get(code, 0)
        assert number == mine
        if how == "leave" and mine:
            self.declarers.pop((mine, process), None)
            self.declarers[mine, ""] = self.now
        elif how in ("start", "alive") and mine:
            self.declarers[mine, process] = self.now
        known: dict[int, tuple[int, int]] = {}
        for (other, who), at in self.declarers.items():
            if other != mine and who != process and at > self.now - LIMITS.worker_ttl_ms:
                seen, there = known.get(other, (0, 0))
                known[other] = (max(seen, at), max(there, int(bool(who))))
        assert {other: (at, there) for other, at, there, _ in others} == known
        if how != "alive":
            assert {other: ids for other, _, _, ids in others} == {
                self.numbers[each]: [each.encode()] for each in CODES if self.numbers.get(each) in known
            }

    # -- the workers ------------------------------------------------------------------------------------------------

    def _poll(
        self, name: str, settled: list[Held], held: list[Held], capacity: int, rows: list[list[Any]],
        blamed: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        worker = self.raw.worker(name, "default", "other")
        known = [h.claim for h in held]
        ended = {r for r, h in self.held.items() if h.until_ms <= self.now and not self._goes_on(h)}
        over = {h.claim.run for h in settled} | ended
        due = self._due() | over | self._blocked(over) | (self._parked() if name == KNOWING else set())
        before = {h.claim.run: self.do(self._fields(h.claim.run)) for h in settled}
        stalled = [["a", "task", 1500, "text"], *blamed] if blamed else []
        places = SERVED if name == KNOWING else b""
        ways = self._plain(settled, rows)
        reply = self.do(
            worker.poll(*rows, held=known, capacity=capacity, heartbeat={}, stalled=stalled, places=places, **ways)
        )
        taken = {claimed[0].decode() for claimed in reply.claims} | {plan[0].decode() for plan in reply.plans}
        early = {entry for entry in taken if not {entry, entry.partition("@")[0]} & due}
        assert not early, f"{early} were not due; {due} were"
        if len(due) < capacity:
            assert not self._due(), "what was due is passed over, though there was room for it"
        self.last_poll[name] = self.raw.sent
        refused = {run.decode() for run in reply.refused}
        for one, its_row in zip(settled, rows, strict=True):
            run = one.claim.run
            holds = self.held.get(run) is one
            assert (run in refused) == (not holds), f"{run}: refused {refused}, held {holds}"
            if not holds and run not in blamed:
                self._came_back(run, one.claim.fence, before[run])
            if holds:
                del self.held[run]
                if its_row[2] in ENDS:
                    self.ended.add(run)
                if its_row[2] == "retry":
                    self._used_up(run, one)
                elif its_row[2] in ("released", "postponed"):  # the latter may be parked
                    self.attempts[run] = (one.generation, one.claim.attempt - 1)  # they use none
                is_over = its_row[2] in ENDS
                if is_over and run in self.expected and one.generation == self.generation[run]:
                    del self.expected[run]
        for one in held:
            if self.held.get(one.claim.run) is one:
                assert one.claim.run.encode() not in reply.lost
                one.until_ms = self.now + LIMITS.lease_ms
        self._recovered()
        for claimed in reply.claims:
            self._claimed(name, Claim.of(claimed))
        self.plans += [(name, plan) for plan in reply.plans]
        self._skipped()

    def _plain(self, settled: list[Held], rows: list[list[Any]]) -> dict[str, list[Any]]:
        """As a worker does: plain runs that are done stand first, and are settled by their tokens."""
        done = [
            one.claim for one, its_row in zip(settled, rows, strict=True) if one.claim.plain and its_row[2] == "done"
        ]
        assert [one.claim for one in settled[: len(done)]] == done
        self.count["plain"] += sum(self.held.get(claim.run) is one for claim, one in zip(done, settled, strict=False))
        self.count["plain, late"] += sum(one in self.stale for one in settled[: len(done)])
        return {"done": [part for one in done for part in (one.run, one.fence)], "found": [one.run for one in done]}

    async def _fields(self, run: str) -> dict[str, str]:
        return await (self.raw.run(run) if "@" in run else self.raw.job(run))

    def _goes_on(self, one: Held) -> bool:
        return self.vouched.get(one.worker, (0, ""))[0] > self.now

    def _came_back(self, run: str, fence: int, fields: dict[str, str]) -> None:
        """A worker that had lost a run tells of it: it lived, so that the run did not use up an attempt."""
        marks = fields.get("lost", "").split()
        if str(fence) not in marks or fields.get("state") == "dead":
            return
        marks.remove(str(fence))
        fields["lost"] = " ".join(marks)
        attempt = int(fields.get("attempt", 0))
        if "fence" not in fields and attempt > 0:
            fields["attempt"] = str(attempt - 1)
            if run in self.attempts:
                generation, used = self.attempts[run]
                self.attempts[run] = (generation, used - 1)

    def _recovered(self, full: str | None = None) -> None:
        """Leases that had ended by now are ended by any poll; by a plan those of its job, if that had no free place."""
        for run, one in list(self.held.items()):
            known = full is not None and (full != run.partition("@")[0] or "fence" in self.do(self.raw.run(run)))
            if one.until_ms <= self.now and self._goes_on(one):
                one.until_ms = self.vouched[one.worker][0]
            elif one.until_ms <= self.now and not known:
                self.stale.append(self.held.pop(run))
                until_ms, blocker = self.vouched.get(one.worker, (0, ""))
                if one.until_ms <= until_ms and blocker not in ("", run):
                    self.attempts[run] = (one.generation, one.claim.attempt - 1)  # another run's fault
                else:
                    self._used_up(run, one)
                if run in self.expected and one.generation == self.generation[run]:
                    # at_most_once and max_recoveries may have ended it, dead and so still there
                    assert self.do(self.raw.job(run)), f"{run} is gone with its worker"

    def _claimed(self, name: str, claim: Claim) -> None:
        assert claim.run not in self.held, f"{claim.run} is held by {self.held[claim.run].worker}, and given to {name}"
        assert claim.fence not in self.fences, "a token was given twice"
        self.fences.add(claim.fence)
        job_id = claim.run.partition("@")[0]
        generation, used = self.attempts.pop(claim.run, (self.generation[job_id], 0))
        instances = sum(run.partition("@")[0] == job_id for run in self.held) + 1
        most = int(self.do(self.raw.job(job_id)).get("max_instances", 1))
        assert instances <= most, f"{job_id} has {instances} instances; {most} are allowed"
        if generation == self.generation[job_id]:
            assert claim.attempt == used + 1, f"{claim.run} begins attempt {claim.attempt}; {used} were used up"
        self.held[claim.run] = Held(name, claim, self.now + LIMITS.lease_ms, self.generation[job_id])

    def _used_up(self, run: str, one: Held) -> None:
        """The attempt is over, and the run is to begin again."""
        self.attempts[run] = (one.generation, one.claim.attempt)

    def _due(self) -> set[str]:
        """The jobs and runs that are due now, in the queues that the workers serve."""
        scores = self.do(self.raw.due()) | self.do(self.raw.due("other"))
        return {entry for entry, at_ms in scores.items() if at_ms <= self.now}

    def _parked(self) -> set[str]:
        """The runs that wait for a worker that knows the task."""
        return {entry for place in PLACES for entry in self.do(self.raw.scores(self.raw.keys.parked(place)))}

    def _blocked(self, runs: set[str]) -> set[str]:
        """The runs that wait for one of these runs to end, because its job has no room for another instance."""
        blocked = {self.do(self.raw.job(run.partition("@")[0])).get("blocked") for run in runs}
        return {run for run in blocked if run}

    def _skipped(self) -> None:
        for kind, job_id, _ in self.do(self.raw.events()):
            if kind == "skipped" and self.expected.get(job_id) == "once":
                del self.expected[job_id]

    @rule(name=workers, capacity=st.sampled_from([1, 10]), renew=st.booleans())
    def poll(self, name: str, capacity: int, renew: bool) -> None:
        held = [h for h in self.held.values() if h.worker == name] if renew else []
        self._poll(name, [], held, capacity, [])

    @rule(
        name=workers,
        verb=st.sampled_from(["done", "retry", "dead", "released", "postponed", "parked", "missed", "cancelled"]),
        claims=st.booleans(),
        late=st.booleans(),
        blame=st.booleans(),
    )
    def settle(self, name: str, verb: str, claims: bool, late: bool, blame: bool) -> None:
        """All that the worker believes to hold, or (late) what it has lost, perhaps because these blocked it."""
        mine = [h for h in (self.stale if late else self.held.values()) if h.worker == name]
        mine.sort(key=lambda h: not h.claim.plain)
        rows = [h.claim.settled("postponed" if verb == "parked" else verb, delay_ms=100) for h in mine]
        if verb == "parked":
            rows = [[*one, NEED] for one in rows]
        blamed = tuple(h.claim.run for h in mine) if blame else ()
        self._poll(name, mine, [], 10 if claims else 0, rows, blamed)

    @rule(
        job_id=ids,
        name=workers,
        between=st.sampled_from(["nothing", "question", "cancel", "replace", "run", "vouch"]),
    )
    def a_plain_run_is_done(self, job_id: str, name: str, between: str) -> None:
        """A worker settles it by the token alone, unless something has become known meanwhile."""
        self.schedule_once(job_id, "replace", 0, None, 1)
        self.poll(name, 10, renew=True)
        other = next(each for each in WORKERS if each != name)
        match between:
            case "question":
                self.ask_how_it_ended(job_id, CLIENTS[0])
            case "cancel":
                self.cancel(job_id, "cancel")
            case "replace":
                self.schedule_once(job_id, "replace", 0, ["t"], 1)
            case "run":
                self.run_now(job_id)
            case "vouch":
                self.vouch(name, 4 * LIMITS.lease_ms, "")
                self.time_passes_and_a_worker_polls(2 * LIMITS.lease_ms, other, renew=True)
            case _:
                pass
        self.settle(name, "done", claims=True, late=False, blame=False)

    @rule(job_id=ids, name=workers, then=st.sampled_from(["waits", "runs", "replaced"]))
    def a_plain_run_is_done_after_its_lease(self, job_id: str, name: str, then: str) -> None:
        """The run waits by then, or is another worker's, or that has a new job of the same id."""
        self.schedule_once(job_id, "replace", 0, None, 1)
        self.poll(name, 10, renew=True)
        other = next(each for each in WORKERS if each != name)
        self.now += 2 * LIMITS.lease_ms
        self._stop_the_clock()
        self.poll(other, 10 if then == "runs" else 0, renew=True)
        if then == "replaced":
            self.cancel(job_id, "cancel")
            self.schedule_once(job_id, "replace", 0, None, 1)
            self.poll(other, 10, renew=True)
        self.settle(name, "done", claims=True, late=True, blame=False)

    def _park_all(self) -> None:
        for name in WORKERS:
            self.settle(name, "parked", claims=False, late=False, blame=False)

    @rule(job_id=ids, what=st.sampled_from(["record", "queue", "tags", "reschedule", "once", "periodic"]))
    def what_is_parked_is_changed(self, job_id: str, what: str) -> None:
        """Two steps that would seldom meet, as in the next rule."""
        self._park_all()
        self.modify(job_id, what)

    @rule(job_id=ids)
    def what_is_parked_is_run_now(self, job_id: str) -> None:
        self._park_all()
        self.run_now(job_id)

    @rule(
        name=workers,
        for_ms=st.sampled_from([0, 1000, LIMITS.lease_ms, 2 * LIMITS.lease_ms]),
        blocker=st.sampled_from(["", *IDS]),
    )
    def vouch(self, name: str, for_ms: int, blocker: str) -> None:
        """The event loop of a worker stands still, and its process vouches for it; or is over (0)."""
        assert self.do(self.raw.shard.vouch(name, for_ms, blocker, resend=ONCE)) == (name in self.last_poll)
        if for_ms and name in self.last_poll:
            self.vouched[name] = (self.now + for_ms, blocker)
        else:
            self.vouched.pop(name, None)

    @rule(name=workers)
    def the_last_poll_is_sent_again(self, name: str) -> None:
        if name not in self.last_poll:
            return
        script, arguments = self.last_poll[name]
        before = self.do(self.raw.dump("clock"))
        reply = self.do(self.raw.shard.link.script(script, arguments))
        assert self.do(self.raw.dump("clock")) == before
        for claimed in claimed_rows(reply[3]):
            claim = Claim.of(claimed)
            known = self.held.get(claim.run)
            assert known, claim
            assert (known.worker, known.claim.fence) == (name, claim.fence)
            assert (known.claim.attempt, known.claim.fire_ms) == (claim.attempt, claim.fire_ms)

    @rule(coalesce=st.booleans())
    def plan(self, coalesce: bool) -> None:
        """Commit the oldest plan that a worker was given, perhaps long after."""
        if not self.plans:
            return
        name, (job_id, fence, next_ms, *_) = self.plans.pop(0)
        fires = [next_ms] if coalesce else [next_ms, next_ms + 1000]
        following = max(fires[-1], self.now - STEP) // 1000 * 1000 + 1000 + STEP
        outcome = self.do(self.raw.worker(name).commit(job_id.decode(), fence, fires, following, following + 1000))
        assert self.do(self.raw.resend())[2] == [outcome.encode()] or outcome == "STALE"
        self._recovered(job_id.decode())
        if outcome == "started":
            batch = fires if len(fires) > 1 else False
            run = f"{job_id.decode()}@{fires[-1]}"
            self._claimed(name, Claim(run, fence, 1, fires[0], b"", "default", batch, None, 0, 0, 0))

    # -- time -------------------------------------------------------------------------------------------------------

    @rule(ahead=st.sampled_from([100, 1000, LIMITS.lease_ms, 2 * LIMITS.lease_ms]), name=workers, renew=st.booleans())
    def time_passes_and_a_worker_polls(self, ahead: int, name: str, renew: bool) -> None:
        """Leases end, unless they are renewed."""
        self.now += ahead
        self._stop_the_clock()
        self.poll(name, 10, renew)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        self.do(check(self.store))

    @invariant()
    def no_job_is_lost(self) -> None:
        for job_id in self.expected:
            assert "record" in self.do(self.raw.job(job_id)), f"{job_id} is gone"

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """A wish stays until its client was sent what answers it; what it was sent can be found."""
        for client in {client for _, client in self.wishes}:
            key = self.raw.keys.answers(client)
            messages = [message.split(b"\n", 2) for message in self.do(self.raw.command("LRANGE", key, 0, -1))]
            self.do(self.raw.command("DEL", key))
            told = {job_id.decode() for job_id, *_ in messages}
            self.ended |= {run.decode() for _, run, packed in messages if packed}
            assert {(job_id, client) for job_id in told} <= self.wishes, "no client waits for that"
            self.wishes -= {(job_id, client) for job_id in told}
        for job_id, client in self.wishes:
            wish = self.do(self.raw.job(job_id)).get("wish", "")
            assert client in wish.split(), f"{client} waits for {job_id}, and is never told"

    @invariant()
    def how_a_run_ended_is_found(self) -> None:
        for run in self.ended:
            assert self._asked(run) != "unknown", f"nobody knows how {run} ended"

    @invariant()
    def whoever_holds_a_run_is_known_to_redis(self) -> None:
        for run, one in self.held.items():
            fields = self.do(self.raw.run(run) if "@" in run else self.raw.job(run))
            assert (fields.get("fence"), fields.get("owner")) == (str(one.claim.fence), one.worker), run


def test_any_order_of_calls_keeps_the_invariants(redsched_url: str) -> None:
    class Here(Scheduler):
        url = redsched_url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=STEPS // EXAMPLE_STEPS,
            stateful_step_count=EXAMPLE_STEPS,
            deadline=None,
            derandomize="MODEL_STEPS" not in os.environ,  # the long form looks for what is new
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert min(Here.count["plain"], Here.count["plain, late"]) >= 2, Here.count
