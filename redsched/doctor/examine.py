"""Examines a server: whether it is set up so that the promises hold, and what to change where it is not.

Each check stands alone: one that cannot be made (a managed service keeps CONFIG to itself, a user may not ask) says so,
and the others go on. Nothing is changed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from redsched.doctor.finding import Finding
from redsched.doctor.traces import traces
from redsched.errors import RecordVersionError, StoreAccessError, StoreError
from redsched.store.cluster import Cluster
from redsched.store.durability import online_replicas, server_facts
from redsched.store.keys import LAYOUT_VERSION
from redsched.store.leftovers import leftovers
from redsched.store.store import Store

__all__ = ["examine"]

log = logging.getLogger("redsched")

OLDEST = (7, 0)
"""Scripts with flags came with Redis 7.0."""
PINGS = 20
WRITES_SHOWN = 20
SLOW_S, VERY_SLOW_S = 0.005, 0.1
CLOCK_WARN_S = 1.0


@dataclass(slots=True)
class _Patient:
    store: Store
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    async def ask(self, *command: Any) -> Any:
        return await self.store.link.command(*command)

    def number(self, name: str) -> int:
        text = self.facts.get(name, "0")
        return int(text) if text.lstrip("-").isdigit() else 0


async def examine(store: Store, newer: RecordVersionError | None = None) -> list[Finding]:
    """All checks, in a fixed order. `newer`: why this redsched leaves the keys of the prefix alone.

    Raises:
        StoreUnavailableError: no answer from Redis.
        StoreAccessError: it does not let this user in at all.
    """
    patient = _Patient(store)
    await patient.ask("PING")
    layout = [] if newer is None else [_layout(store, newer)]
    try:
        patient.facts = await server_facts(store.link)
    except StoreAccessError:
        unseen = Finding("version", "warning", "this user may not ask INFO: most cannot be seen", "allow +info")
        return [*layout, unseen, *[await _guarded(patient, check) for check in (_latency, _acl, _keys, _writers)]]
    checks = [*CHECKS, _tls] if store.secure else CHECKS
    return [*layout, *[await _guarded(patient, check) for check in checks]]


async def _guarded(patient: _Patient, check: Callable[[_Patient], Awaitable[Finding]]) -> Finding:
    try:
        return await check(patient)
    except StoreError as error:
        return Finding(check.__name__.strip("_"), "warning", f"it could not be seen: {error}")


def _layout(store: Store, newer: RecordVersionError) -> Finding:
    """The stored number of the layout stops each process that starts."""
    key = store.shards[0].keys.clock
    advice = (
        f"if no newer redsched runs here, another program wrote the field layout of {key}: set it to {LAYOUT_VERSION}"
    )
    return Finding("layout", "error", str(newer), advice)


async def _version(patient: _Patient) -> Finding:
    facts = patient.facts
    known = facts.get("redis_version", "0")
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {known}"
    parts = tuple(int(part) for part in known.split(".")[:2] if part.isdigit())
    if parts < OLDEST:
        return Finding("version", "error", f"{name} is too old", "use Redis 7.0 or newer, or Valkey")
    return Finding("version", "ok", name)


async def _eviction(patient: _Patient) -> Finding:
    policy = patient.facts.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("eviction", "ok", "noeviction: a full server refuses new jobs, and keeps those that it has")
    limit = patient.number("maxmemory")
    advice = "CONFIG SET maxmemory-policy noeviction, or give redsched a separate server"
    if not limit:
        return Finding("eviction", "warning", f"{policy}: jobs would be evicted, if maxmemory were set", advice)
    return Finding("eviction", "error", f"{policy}: Redis may delete jobs to make room", advice)


async def _memory(patient: _Patient) -> Finding:
    used, limit = patient.number("used_memory"), patient.number("maxmemory")
    text = f"{used / 2**20:,.0f} MiB used"
    if not limit:
        return Finding("memory", "ok", f"{text}, no maxmemory")
    share = used / limit
    text = f"{text} of {limit / 2**20:,.0f} ({share:.0%})"
    if share > 0.95:
        return Finding("memory", "error", text, "raise maxmemory: new jobs are about to be refused")
    return Finding("memory", "warning" if share > 0.8 else "ok", text, "raise maxmemory soon" if share > 0.8 else "")


async def _persistence(patient: _Patient) -> Finding:
    facts = patient.facts
    if facts.get("aof_last_write_status", "ok") != "ok" or facts.get("aof_last_bgrewrite_status", "ok") != "ok":
        return Finding(
            "persistence", "error", "the last write of the append-only file failed", "look at the server's log"
        )
    if facts.get("aof_enabled") == "1":
        try:
            policy = (await patient.ask("CONFIG", "GET", "appendfsync"))[1].decode()
        except (StoreError, IndexError):
            policy = "not to be seen"
        lost = {"always": "nothing acknowledged is lost", "everysec": "a crash loses up to a second"}
        level: Literal["ok", "warning"] = "warning" if policy == "no" else "ok"
        advice = "CONFIG SET appendfsync everysec" if policy == "no" else ""
        return Finding(
            "persistence", level, f"append-only file, appendfsync {policy}: {lost.get(policy, 'unknown')}", advice
        )
    if facts.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding(
            "persistence", "error", "the last snapshot failed: Redis may refuse writes", "look at the server's log"
        )
    saves = (await patient.ask("CONFIG", "GET", "save"))[1].decode()
    if saves:
        return Finding(
            "persistence",
            "warning",
            f"snapshots only ({saves}): a crash loses all since the last one",
            "CONFIG SET appendonly yes",
        )
    return Finding("persistence", "error", "nothing is kept: a restart loses every job", "CONFIG SET appendonly yes")


async def _replicas(patient: _Patient) -> Finding:
    if patient.facts.get("role") != "master":
        return Finding("replicas", "error", "this is a replica: it takes no writes", "name the primary in the URL")
    count = online_replicas(dict(patient.facts))
    if count:
        return Finding("replicas", "ok", f"{count} online")
    return Finding(
        "replicas", "ok", "none: durability='replicated' is refused, and a lost server is down until it is back"
    )


def _number(stored: bytes | None) -> int:
    """The stored number if it is valid; else 0, as in the scripts: see the check of writers."""
    text = (stored or b"").decode(errors="replace")
    return int(text) if len(text) <= 16 and text.removeprefix("-").isdecimal() else 0


async def _clock(patient: _Patient) -> Finding:
    seconds, micros = map(int, await patient.ask("TIME"))
    server = seconds + micros / 1e6
    apart = server - time.time()  # noqa: TID251  nothing is decided by it
    shard = patient.store.shards[0]
    seen, offset = await patient.ask("HMGET", shard.keys.clock, "now_us", "offset_ms")
    moved_ms, seen_us = (_number(value) for value in (offset, seen))
    if moved_ms:
        return Finding(
            "clock",
            "warning",
            f"the testing kit moved time {moved_ms / 1000:,.0f} s ahead",
            "redsched doctor --repair clock; use a separate prefix for tests",
        )
    behind = (seen_us / 1e6 - server) if seen_us else 0.0
    if behind > CLOCK_WARN_S:
        return Finding(
            "clock",
            "error",
            f"Redis' clock stepped back by {behind:,.1f} s: nothing is due until then",
            "correct the clock of Redis' machine (NTP); if it is right: redsched doctor --repair clock",
        )
    if abs(apart) > CLOCK_WARN_S:
        return Finding(
            "clock",
            "warning",
            f"{apart:+,.1f} s apart from this machine's. Only Redis' decides",
            "repair the one that is wrong (NTP)",
        )
    return Finding("clock", "ok", f"{apart * 1000:+,.0f} ms apart from this machine's")


async def _latency(patient: _Patient) -> Finding:
    taken: list[float] = []
    for _ in range(PINGS):
        started = time.monotonic()
        await patient.ask("PING")
        taken.append(time.monotonic() - started)
    middle = median(taken)
    text = f"{middle * 1000:.2f} ms in the median, {max(taken) * 1000:.2f} at most, of {PINGS} pings"
    if middle > VERY_SLOW_S:
        return Finding("latency", "error", text, "run workers near Redis; leases may end while nothing is wrong")
    return Finding(
        "latency", "warning" if middle > SLOW_S else "ok", text, "run workers near Redis" if middle > SLOW_S else ""
    )


async def _acl(patient: _Patient) -> Finding:
    user = (await patient.ask("ACL", "WHOAMI")).decode()
    keys = patient.store.shards[0].keys
    denied: list[str] = []
    for command in keys.samples():
        try:
            verdict = await patient.ask("ACL", "DRYRUN", user, *command)
        except StoreAccessError:
            return Finding("acl", "ok", f"user {user}; it may not ask what it may do (ACL DRYRUN)")
        if verdict != b"OK":
            denied.append(f"{' '.join(map(str, command))}: {verdict.decode(errors='replace')}")
    if denied:
        return Finding(
            "acl",
            "error",
            f"user {user} may not do all that a worker does: {'; '.join(denied[:5])}",
            "see the recipe in docs/security.md",
        )
    if user == "default":
        return Finding("acl", "warning", "everybody is the user default", "give each service its own: docs/security.md")
    return Finding("acl", "ok", f"user {user} may do all that a worker does")


async def _cluster(patient: _Patient) -> Finding:
    if patient.facts.get("cluster_enabled") != "1":
        return Finding("cluster", "ok", "one server")
    if not isinstance(patient.store.wire, Cluster):
        return Finding("cluster", "error", "a node of a cluster", "write redis+cluster://host:port as its URL")
    text = (await patient.ask("CLUSTER", "INFO")).decode()
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if info.get("cluster_state") != "ok" or info.get("cluster_slots_fail", "0") != "0":
        return Finding(
            "cluster",
            "error",
            f"{info.get('cluster_state')}, {info.get('cluster_slots_fail')} slots fail",
            "bring the missing primaries back",
        )
    text = f"{info.get('cluster_size')} primaries, {info.get('cluster_slots_ok')} slots"
    alone = await patient.store.wire.without_replica()
    if alone:
        return Finding("cluster", "warning", f"{text}; {', '.join(alone)} without a replica", "give each primary one")
    for shard in patient.store.shards:
        await shard.link.command("PING")
    spread = Counter(shard.link.where for shard in patient.store.shards)
    text += f"; shards: {', '.join(f'{count} on {where}' for where, count in sorted(spread.items()))}"
    if len(spread) < min(int(info.get("cluster_size", 1)), len(patient.store.shards)):
        return Finding("cluster", "warning", text, "more shards, or another job_store_prefix, would spread better")
    return Finding("cluster", "ok", text)


async def _keys(patient: _Patient) -> Finding:
    found, count = await leftovers(patient.store)
    if not found:
        return Finding("keys", "ok", f"{count:,} keys, each with its owner")
    shown = "; ".join(found[:5])
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return Finding("keys", "warning", f"{shown}{more}", "nothing of redsched needs them: look, and delete them")


async def _writers(patient: _Patient) -> Finding:
    found = await traces(patient.store)
    if not found:
        return Finding("writers", "ok", "nothing that another program wrote")
    more = f"; and {len(found) - WRITES_SHOWN} more" if len(found) > WRITES_SHOWN else ""
    advice = "find out who else may write to this prefix, and give each service its own user: docs/security.md"
    return Finding("writers", "error", f"another program writes here: {'; '.join(found[:WRITES_SHOWN])}{more}", advice)


async def _tls(patient: _Patient) -> Finding:
    if problem := patient.store.unverified:
        advice = "take the option away, and name the CA with ssl_ca_certs"
        return Finding("tls", "error", f"the server's certificate is not verified; {problem}", advice)
    return Finding("tls", "ok", "the server's certificate and the host that it names are verified")


CHECKS = (_version, _eviction, _memory, _persistence, _replicas, _clock, _latency, _acl, _cluster, _keys, _writers)
