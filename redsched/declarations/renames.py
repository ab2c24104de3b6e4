"""A declaration that has another name now takes over the job of its earlier one, which may be in another shard.

The job is ended under its earlier name, and kept in that name's entry in the same call; then it is stored under the new
one. A process that is killed in between loses nothing: the next start finds the entry, and carries on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redsched.client.core import instant_of
from redsched.codec.numbers import whole
from redsched.declarations.definition import Declaration, Entry
from redsched.declarations.owners import Owner
from redsched.declarations.redeclare import Update
from redsched.errors import UnknownKeyError
from redsched.jobs.accounting import cursor_of
from redsched.jobs.record import Job
from redsched.model import Reason
from redsched.store import queries
from redsched.store.declared import forget_declared, note_declared, read_declared
from redsched.store.queries import StoredJob
from redsched.store.rows import declare_row
from redsched.store.store import Store
from redsched.store.transitions import ClockMovedError

__all__ = ["adopt"]

MOVED = (
    "periodic", "runs_left", "max_runs", "max_instances", "max_recoveries", "delivery", "modified", "declared",
    "application", "generation", "parts",
)  # fmt: skip
"""Fields of a job's hash that go along when it is renamed; its next fire and its pause are looked at apart."""


class Writer(Protocol):
    """The part of `reconcile.Reconciler` that a rename needs."""

    store: Store

    def is_held_back(self, owner: Owner, job_id: str) -> bool:
        """Whether another process still declares it."""
        ...

    def computed(self, owner: Owner, one: Declaration, stored: StoredJob, now_ms: int) -> Update:
        """The change of a stored job."""
        ...

    async def put(self, owner: Owner, one: Declaration, row: list[Any], entry: Entry | None, now_ms: int) -> str | None:
        """Store a job, unless another process was faster."""
        ...


async def adopt(it: Writer, owner: Owner, one: Declaration, names: Sequence[str], entry: Entry | None) -> str | None:
    """Take over the job of an earlier name: status; "" = look again; None = there is none."""
    for alias in names:
        before = Entry.unpack((await read_declared(it.store, owner.name, [alias])).get(alias))
        stored = (await queries.read_jobs(it.store, [alias])).get(alias)
        if stored is not None and "record" in stored.fields and _is_declared(stored, owner.name):
            if it.is_held_back(owner, alias):
                return "held_back"
            if stored.fields.get("state") == b"dead" or (
                "periodic" not in stored.fields and "fire_ms" in stored.fields
            ):
                # Its only fire has begun, or failed, under the earlier name: it is not run again under this one.
                await note_declared(it.store, owner.name, one.id, one.entry(owner.generation).pack())
                return "over"
            moved = await retire(it, owner, one, alias, stored)
            if moved is None:
                return ""
            return await arrive(it, owner, one, alias, moved, entry) or ""
        if before is not None and before.state == "moved" and before.to == one.id and before.job:
            return await arrive(it, owner, one, alias, before, entry) or ""
        if before is not None and before.state != "moved":
            # Over, or removed, under the earlier name, and so under this one: but for a schedule that is another.
            state = before.state
            if state != "removed" and one.runs_anew(before):
                return None
            kept = one.entry(owner.generation, state).pack()
            await note_declared(it.store, owner.name, one.id, kept)
            await forget_declared(it.store, owner.name, alias)
            return "removed" if state == "removed" else "over"
    return None


async def retire(it: Writer, owner: Owner, one: Declaration, alias: str, stored: StoredJob) -> Entry | None:
    """End the job of the earlier name, and keep its new form; None = another process was faster."""
    shard = it.store.shard(alias)
    now_ms = await instant_of(shard)
    made = it.computed(owner, one, stored, now_ms)
    change, fields = made.change, dict(stored.fields)
    paused = fields.get("state") == b"paused"
    when = change["when"]
    at_ms = when[0] if isinstance(when, list) else stored.due_ms
    if when == "saved":
        at_ms = whole(fields.get("paused_ms")) or 0
    elif when in ("pause", "end") or (when is False and paused):
        at_ms = None
    record = change.get("record")
    if record is None:
        try:
            known = Job.decode(alias, fields["record"], it.store.sealer).record
        except UnknownKeyError:
            raise
        except Exception:  # spoilt: what the code says is known
            known = one.definition.record()
        record = known.pack(one.id, it.store.sealer)
    kept: dict[str, Any] = {name: fields[name] for name in MOVED if name in fields and name not in change["unset"]}
    flat = change["set"]
    kept |= {str(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    if "periodic" in kept and at_ms is not None:
        kept["next_ms"] = at_ms
    if when == "pause":
        hidden = fields.get("next_ms") or stored.due_ms
        field, at = change.get("paused") or ("paused_ms", hidden)
        kept |= {} if at is None else {field: at}
    if when is False and paused:
        kept |= {name: fields[name] for name in ("paused_ms", "paused_from") if name in fields}
    tags = change.get("tags", list(_tags(record, one, it.store)))
    queue = change.get("queue", fields.get("queue", b"default").decode(errors="replace"))
    row = [
        queue,
        at_ms if at_ms is not None else False,
        record,
        [part for pair in kept.items() for part in pair],
        tags,
    ]
    entry = one.entry(owner.generation, "moved")
    entry.to, entry.job = one.id, {} if when == "end" else {"row": row}
    ending = {
        "kind": "removed", "reason": Reason.RENAMED.value, "when": "end", "dropped": change.get("dropped", []),
        "entry": [owner.name, entry.pack()], "cursor": change.get("cursor", cursor_of(stored.fields, stored.due_ms)),
    }  # fmt: skip
    try:
        done = await shard.modify(alias, stored.version, ending, assumed_ms=now_ms)
    except (ClockMovedError, KeyError):
        return None
    return Entry.unpack(entry.pack()) if done is not None else None


async def arrive(
    it: Writer, owner: Owner, one: Declaration, alias: str, moved: Entry, entry: Entry | None
) -> str | None:
    """Store the job that was retired under its earlier name."""
    shard = it.store.shard(one.id)
    now_ms = await instant_of(shard)
    if not moved.job:
        await note_declared(it.store, owner.name, one.id, one.entry(owner.generation).pack())
        status: str | None = "over"
    else:
        queue, at_ms, record, fields, tags = moved.job["row"]
        row = declare_row(job_id=one.id, queue=queue, at_ms=at_ms, record=record, fields=fields, tags=tags)
        status = await it.put(owner, one, row, entry, now_ms)
    if status is not None:
        moved.job = {}
        await note_declared(it.store, owner.name, alias, moved.pack())
    return "renamed" if status == "added" else status


def _is_declared(stored: StoredJob, application: str) -> bool:
    own = stored.fields.get("application")
    return own == application.encode() if own is not None else "declared" in stored.fields


def _tags(record: bytes, one: Declaration, store: Store) -> Sequence[str]:
    return Job.decode(one.id, record, store.sealer).tags
