"""`start` makes what is stored agree with what the code declares; `prune` ends what it does not declare any more.

Each declaration is carried out separately: one that cannot be is reported, and prevents no other from being
stored, and no service from starting. What is decided is in `declarations.py`; here it is read and written, again where
another process was faster.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import anyio

from redsched.client.core import TRIES, Client, instant_of
from redsched.client.schedule import draft_of
from redsched.client.scheduling_middleware import changed
from redsched.declarations import pruning
from redsched.declarations.bygone import has_ended, has_failed
from redsched.declarations.definition import Declaration, Entry, unpack_parts
from redsched.declarations.owners import Owner, ids_of
from redsched.declarations.redeclare import Update, update
from redsched.declarations.renames import adopt
from redsched.errors import InvalidInputError, InvalidScheduleError, RedschedError, StoreError, StoreUnavailableError
from redsched.jobs.record import Job
from redsched.jobs.spec import JobSpec
from redsched.model import DeclaredJob, Reason
from redsched.runtime import forks
from redsched.store import queries
from redsched.store.declared import forget_declared, note_declared, read_declared
from redsched.store.queries import StoredJob
from redsched.store.rows import Scheduled
from redsched.store.store import Store
from redsched.store.transitions import ClockMovedError
from redsched.tasks.class_based import module_name

__all__ = ["Reconciler"]

log = logging.getLogger("redsched.declarations")


class Reconciler:
    """The declarations of one scheduler, from its start to its shutdown."""

    def __init__(self, client: Client, store: Store, application: str | None) -> None:
        self.client = client
        self.store = store
        self.application = application
        self.owners: dict[str, Owner] = {}
        self.jobs: dict[str, DeclaredJob] = {}
        """What became of each declaration, by its id."""
        self.prune_wanted = False
        self._held: frozenset[str] = frozenset()
        """Ids that would be pruned, if no process were there that still declares them."""
        self._settle_again = self._ask_again = False

    # -- what is declared -------------------------------------------------------------------------------------------

    async def take(self, specs: Sequence[JobSpec[Any]]) -> None:
        """Check the declarations, each by itself."""
        made: dict[str, Declaration] = {}
        for spec in specs:
            job_id = str(spec.options.get("job_id", spec.name))
            try:
                if self.client.middleware:
                    spec = await changed(self.client.middleware, spec)
                one = self._declaration(spec)
            except Exception as error:
                self._failed(job_id, spec.name, self.application or "", error)
                continue
            twin = made.get(one.id)
            if twin is not None and twin.digest != one.digest:
                self._failed(
                    one.id, one.definition.task, one.application,
                    InvalidInputError(f"two jobs are declared with the id {one.id!r}; give one another job_id"),
                )  # fmt: skip
                continue
            made[one.id] = one
        for one in made.values():
            one.aliases = tuple(alias for alias in one.aliases if alias not in made)
            self.owners.setdefault(one.application, Owner(one.application)).declared.append(one)

    def _declaration(self, spec: JobSpec[Any]) -> Declaration:
        forks.notice()
        draft, task, local_owner = draft_of(self.client, self.store, spec)
        draft.definition.mode = "declare"
        module = module_name(getattr(task.function, "__module__", None) or "__main__")
        application = self.application or module.partition(".")[0]
        aliases = self.client.registry.aliases_of(task.name)
        return Declaration(draft.definition.id, application, draft, aliases, local_owner)

    def _failed(self, job_id: str, task: str, application: str, error: Exception) -> None:
        text = str(error) if isinstance(error, RedschedError) else f"{type(error).__name__}: {error}"
        self.jobs[job_id] = DeclaredJob(job_id, task, application, "failed", error=text)
        log.error(
            "the declared job %r (task %s, application %s) is not stored as declared: %s. What was stored "
            "of it before stays; other jobs are not concerned. Correct the declaration and start again.",
            job_id, task, application or "-", text, extra={"job": job_id, "task": task},
        )  # fmt: skip

    def failed(self) -> dict[str, str]:
        """The declared jobs that are not stored as declared, and why."""
        return {job.id: job.error or "" for job in self.jobs.values() if job.status == "failed"}

    # -- who else is there ------------------------------------------------------------------------------------------

    async def announce(self, how: str = "start") -> None:
        """Tell which jobs this process declares, or that it is still there, or leaves; learn who else is there."""
        if not self.owners:
            return
        first = self.store.shards[0]
        look = how == "look"
        rows = [
            [owner.name, "" if look else owner.digest, owner.ids if how == "start" else False]
            for owner in self.owners.values()
        ]
        for name, generation, others in await first.declare(self.client.id, how, rows):
            owner = self.owners[name.decode()]
            if how in ("start", "look"):
                owner.observe(generation, others)
            elif how == "alive":
                lately = {number for number, *_ in others if number > generation}
                self._settle_again |= not set(owner.newer) <= lately
                self._ask_again |= not generation or not lately <= set(owner.newer)

    # -- all of them ------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Make what is stored agree with all declarations.

        Raises:
            StoreUnavailableError: Redis does not answer.
        """
        await self.announce()
        for owner in self.owners.values():
            # Entries first: where one is there, and no job, the job is over, and not yet to be stored.
            entries = await read_declared(self.store, owner.name, [one.id for one in owner.declared])
            found = await queries.read_jobs(self.store, [one.id for one in owner.declared])
            for one in owner.declared:
                try:
                    status = await self._settle(owner, one, found.get(one.id), Entry.unpack(entries.get(one.id)))
                except StoreUnavailableError:
                    raise
                except Exception as error:
                    self._failed(one.id, one.definition.task, one.application, error)
                else:
                    self._tell(owner, one, status)
            await pruning.forget_old(self.store, owner)
        if self.prune_wanted:
            await self.prune()

    def _tell(self, owner: Owner, one: Declaration, status: str) -> None:
        before = self.jobs.get(one.id)
        about = {"job": one.id, "task": one.definition.task}
        self.jobs[one.id] = DeclaredJob(one.id, about["task"], owner.name, status, owner.generation)
        if before is not None and before.status == status:
            return
        if status == "held_back":
            log.warning(
                "the declared job %r stays as a newer generation of %s declares it than this process (%d); this one's "
                "applies when no process of that was seen for %.0f s",
                one.id, owner.name, owner.generation, self.store.limits.worker_ttl_ms / 1000, extra=about,
            )  # fmt: skip
        elif status not in ("kept", "added"):
            log.info("the declared job %r of %s: %s", one.id, owner.name, status, extra=about)

    # -- one of them ------------------------------------------------------------------------------------------------
    async def _settle(self, owner: Owner, one: Declaration, stored: StoredJob | None, entry: Entry | None) -> str:
        for _ in range(TRIES):
            status = await self._try(owner, one, stored if is_there(stored) else None, entry)
            if status is not None:
                return status
            entry = Entry.unpack((await read_declared(self.store, owner.name, [one.id])).get(one.id))
            stored = (await queries.read_jobs(self.store, [one.id])).get(one.id)
        raise StoreError(f"job {one.id!r} is being changed by others all the time")

    async def _try(self, owner: Owner, one: Declaration, stored: StoredJob | None, entry: Entry | None) -> str | None:
        """The resulting status; None = another process was faster: look again."""
        if stored is None:
            return await self._without_job(owner, one, entry)
        if stored.fields.get("state") == b"dead":
            if "periodic" in stored.fields or (entry is not None and one.runs_anew(entry)):
                return await self._add(owner, one, entry)
            if entry is None and not has_failed(one, stored):
                return await self._add(owner, one, entry)
            return "over" if entry is not None else await self._note_over(owner, one)
        application = stored.fields.get("application", b"").decode(errors="replace")
        if entry is not None and application == owner.name and _agrees(one, stored):
            return "kept"
        if self.is_held_back(owner, one.id):
            return "held_back"
        await self._check_owner(owner, one.id, stored)
        return await self._update(owner, one, stored, entry)

    def is_held_back(self, owner: Owner, job_id: str) -> bool:
        return any(job_id in ids for ids in owner.newer.values())

    async def _check_owner(self, owner: Owner, job_id: str, stored: StoredJob) -> None:
        """A job of another application is taken over when no process of that declares it any more."""
        other = stored.fields.get("application", b"").decode(errors="replace")
        if other in ("", owner.name):
            return
        [[_, _, others]] = await self.store.shards[0].declare(self.client.id, "look", [[other, "", False]])
        mine = self.owners.get(other)
        if any(there and job_id in ids_of(ids) for _, _, there, ids in others) or (mine and job_id in mine.ids):
            raise InvalidInputError(
                f"the application {other!r} declares a job of the id {job_id!r} as well, and runs; give this one "
                "another job_id, or both the same application"
            )
        await forget_declared(self.store, other, job_id)

    async def _without_job(self, owner: Owner, one: Declaration, entry: Entry | None) -> str | None:
        if entry is None or entry.state == "moved":
            sources = [*one.aliases, *([entry.to] if entry is not None and entry.to else [])]
            if sources and (status := await adopt(self, owner, one, sources, entry)) is not None:
                return status or None
        if entry is None:
            if await has_ended(self.store, one, await instant_of(self.store.shard(one.id))):
                return await self._note_over(owner, one)
            return await self._add(owner, one, entry)
        anew = one.runs_anew(entry)
        if not anew and entry.state != "moved":
            return "removed" if entry.state == "removed" else "over"
        if self.is_held_back(owner, one.id):
            return "held_back"
        return await self._add(owner, one, entry, None if anew is True or entry.state == "moved" else int(anew))

    async def _note_over(self, owner: Owner, one: Declaration) -> str:
        await note_declared(self.store, owner.name, one.id, one.entry(owner.generation).pack())
        return "over"

    async def _add(
        self, owner: Owner, one: Declaration, entry: Entry | None, runs_left: int | None = None
    ) -> str | None:
        shard = self.store.shard(one.id)
        now_ms = await instant_of(shard)
        try:
            row = one.draft.row(now_ms)
        except InvalidScheduleError:
            # It has no future fire: it is over before it began, which is not an error.
            return await self._note_over(owner, one)
        fields = [*(row[Scheduled.FIELDS] or []), *one.fields(owner.generation)]
        if runs_left is not None:
            fields += ["runs_left", runs_left]
        row[Scheduled.FIELDS] = fields
        return await self.put(owner, one, row, entry, now_ms)

    async def put(self, owner: Owner, one: Declaration, row: list[Any], entry: Entry | None, now_ms: int) -> str | None:
        shard = self.store.shard(one.id)
        expected = (await read_declared(self.store, owner.name, [one.id])).get(one.id)
        if Entry.unpack(expected) != entry:
            return None
        row = [*row, False, [owner.name, one.entry(owner.generation).pack(), expected or False]]
        durability = one.definition.durability
        level = self.store.durability_level([durability]) if durability else None
        try:
            [status] = await shard.schedule([row], assumed_ms=now_ms, owner=one.local_owner, level=level)
        except ClockMovedError:
            return None
        return {"changed": None, "replaced": "added"}.get(status, status)

    async def _update(self, owner: Owner, one: Declaration, stored: StoredJob, entry: Entry | None) -> str | None:
        shard = self.store.shard(one.id)
        now_ms = await instant_of(shard)
        made = self.computed(owner, one, stored, now_ms)
        made.change["entry"] = [owner.name, one.entry(owner.generation).pack()]
        version = stored.version
        try:
            done = await shard.modify(one.id, version, made.change, assumed_ms=now_ms)
        except ClockMovedError:
            return None
        except KeyError:  # it ended meanwhile
            return None
        if done is None:
            return None
        return "updated" if made.changed else "kept"

    def computed(self, owner: Owner, one: Declaration, stored: StoredJob, now_ms: int) -> Update:
        try:
            job = Job.decode(stored.id, stored.fields["record"], self.store.sealer)
        except Exception:  # of another key, or spoilt: only its cursor can be kept
            job = None
        made = update(one, stored.id, job, stored.fields, stored.due_ms, now_ms, owner.generation)
        change = made.change
        if "record" in change:
            change["record"] = change["record"].pack(one.id, self.store.sealer)
        if made.changed:
            ends = change["when"] == "end"
            change["kind"] = "ended" if ends else "replaced" if "schedule" in made.changed else "modified"
            change["reason"] = (Reason.ENDED if ends else Reason.DECLARED).value
        return made

    async def prune(self, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
        """End what the code declares no more. Returns the ids that were ended (or would be), and those held back."""
        ended, held = list[str](), list[str]()
        for owner in self.owners.values():
            ids, others = await pruning.candidates(self.store, owner)
            held += others
            ended += ids if dry_run else await pruning.end(self.store, owner, ids)
        if ended and not dry_run:
            log.info("pruned, as the code does not declare them any more: %s", ", ".join(ended))
        if not self._held.issuperset(held):
            log.info("not pruned yet: %s; a process that may still declare them is there", ", ".join(held))
        self._held = frozenset(held)
        return ended, held

    # -- as long as this process lives ------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Tell that this process is there, and settle again what was held back when what held it is gone."""
        while True:
            await anyio.sleep(self.store.limits.max_idle_ms / 1000)
            try:
                await self.announce("alive")
                if self._settle_again or self._held:
                    self._settle_again = False
                    await self.settle()
                elif self._ask_again:
                    await self.announce()
                self._ask_again = False
            except StoreError as error:
                log.info("the declarations could not be looked at: %s", error)
            except Exception:
                log.exception("the declarations could not be looked at")

    async def leave(self) -> None:
        """Report that this process leaves: its declarations may be pruned, and replaced after a while."""
        try:
            await self.announce("leave")
        except StoreError as error:
            log.info("could not say goodbye: %s", error)


def is_there(stored: StoredJob | None) -> bool:
    return stored is not None and "record" in stored.fields


def _agrees(one: Declaration, stored: StoredJob) -> bool:
    return unpack_parts(stored.fields.get("parts")) == one.parts
