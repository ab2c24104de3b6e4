"""A real cluster, and a real primary with a replica and sentinels, on loopback."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from typing import Any, Self

import hiredis

from redsched.testing.servers import Aof, LocalServer, free_port, wait_until

__all__ = ["ClusterServers", "Sentinel", "SentinelServers", "ask"]

SLOTS = 16384
NODE_TIMEOUT_MS = 1000
WELL_S = 60.0
"""How long servers may take to find each other."""


def ask(server: LocalServer, *command: Any) -> Any:
    """A command to that very server.

    Raises:
        OSError: it is not there.
        RuntimeError: it refused; its words are in the message.
    """
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(hiredis.pack_command(tuple(map(str, command))))  # pyright: ignore[reportArgumentType]
        reader = hiredis.Reader(encoding="utf-8", errors="replace")
        while (reply := reader.gets()) is False:
            received = connection.recv(65536)
            if not received:
                raise ConnectionError(f"{server.url} closed the connection")
            reader.feed(received)
    if isinstance(reply, hiredis.ReplyError):
        raise RuntimeError(f"{command}: {reply}")  # noqa: TRY004 - it is an answer, of another kind
    return reply


def _says(server: LocalServer, text: str, *command: Any) -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        return text in ask(server, *command)
    return False


def _leads(server: LocalServer) -> bool:
    return _says(server, "role:master", "INFO", "replication")


def _follows(replica: LocalServer) -> bool:
    return _says(replica, "master_link_status:up", "INFO", "replication")


class _Node(LocalServer):
    """One of a cluster."""

    def __init__(self, binary: str | None) -> None:
        self.bus = free_port()
        super().__init__(
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-port", str(self.bus),
            "--repl-diskless-sync-delay", "0", binary=binary, aof="everysec",
        )  # fmt: skip


class ClusterServers:
    """Primaries that share the slots evenly, with or without a replica each."""

    def __init__(self, primaries: int = 3, *, replicas: bool = False, binary: str | None = None) -> None:
        self.nodes: list[_Node] = []
        try:
            for _ in range(primaries * (2 if replicas else 1)):
                self.nodes.append(_Node(binary))
            self._found()
        except BaseException:
            self.close()
            raise

    def _found(self) -> None:
        count = len(self.nodes) // 2 if len(self.nodes) > 3 else len(self.nodes)
        self.primaries: list[_Node] = self.nodes[:count]
        self.replicas: list[_Node] = self.nodes[count:]
        """In the same order: `replicas[n]` follows `primaries[n]`."""
        self.url: str = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self._moved: dict[int, _Node] = {}
        for number, node in enumerate(self.primaries):
            ask(node, "CLUSTER", "ADDSLOTSRANGE", number * SLOTS // count, (number + 1) * SLOTS // count - 1)
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        known = f"cluster_known_nodes:{len(self.nodes)}\r"
        wait_until(lambda: all(_says(node, known, "CLUSTER", "INFO") for node in self.nodes), WELL_S, "the nodes met")
        for number, replica in enumerate(self.replicas):
            ask(replica, "CLUSTER", "REPLICATE", ask(self.primaries[number], "CLUSTER", "MYID"))
        wait_until(lambda: all(map(self.is_well, self.nodes)), WELL_S, "the cluster is well")
        wait_until(lambda: all(map(_follows, self.replicas)), WELL_S, "the replicas follow")
        # And all know of it: who is asked where the slots are names the replicas too.
        rows = 4 if self.replicas else 3
        wait_until(
            lambda: all(len(row) == rows for node in self.nodes for row in ask(node, "CLUSTER", "SLOTS")),
            WELL_S,
            "all know all",
        )

    def is_well(self, node: LocalServer) -> bool:
        """Whether all is well as far as this node knows."""
        return _says(node, "cluster_state:ok", "CLUSTER", "INFO")

    def owner(self, slot: int) -> LocalServer:
        """The primary that has a slot."""
        return (
            self._moved.get(slot)
            or self.primaries[
                next(n for n in range(len(self.primaries)) if slot < (n + 1) * SLOTS // len(self.primaries))
            ]
        )

    def fail_over(self, number: int, *, kill: bool) -> None:
        """A replica takes the place of its primary: as planned, or since that gets SIGKILL. Ends when one of the two
        follows the other: on a busy machine the cluster may take the new primary for dead, and put back the old one."""
        old, new = self.primaries[number], self.replicas[number]
        if kill:
            old.kill()
        else:
            ask(new, "CLUSTER", "FAILOVER")
        wait_until(lambda: _leads(new), WELL_S, "the replica is the primary")
        if kill:
            old.start()
        wait_until(lambda: self._is_pair(new, old) or self._is_pair(old, new), WELL_S, "one follows the other")
        if self._is_pair(new, old):
            self.primaries[number], self.replicas[number] = new, old
        wait_until(lambda: all(map(self.is_well, self.nodes)), WELL_S, "the cluster is well")

    @staticmethod
    def _is_pair(primary: LocalServer, replica: LocalServer) -> bool:
        return _leads(primary) and _follows(replica)

    def move(self, slot: int, target: LocalServer, pause: float = 0.0) -> int:
        """Move a slot, as `redis-cli --cluster reshard` does. Returns how many keys went.

        Args:
            pause: seconds between twenty keys and the next, so that calls meet a shard in two halves.
        """
        source, moved = self.owner(slot), 0
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(source, "CLUSTER", "MYID"))
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ask(target, "CLUSTER", "MYID"))
        while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 20):
            ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
            time.sleep(pause)
        for node in (target, source, *(node for node in self.primaries if node not in (source, target))):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", ask(target, "CLUSTER", "MYID"))
        self._moved[slot] = target  # pyright: ignore[reportArgumentType]
        return moved

    def close(self) -> None:
        """Kill all."""
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sentinel(LocalServer):
    """One that watches `jobs`; two of them decide that it is down."""

    def __init__(self, primary: int, binary: str | None = None) -> None:
        self._primary = primary
        super().__init__(binary=binary)

    def _make_command(self, aof: Aof, args: Sequence[str]) -> list[str]:
        del aof, args
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor jobs 127.0.0.1 {self._primary} 2\n"
            "sentinel down-after-milliseconds jobs 700\nsentinel failover-timeout jobs 5000\n"
        )
        return [self.binary, str(file), "--sentinel"]


class SentinelServers:
    """A primary, a replica of it, and three sentinels."""

    def __init__(self, binary: str | None = None) -> None:
        self.sentinels: list[Sentinel] = []
        self.servers: list[LocalServer] = []
        try:
            self.primary: LocalServer = self._serve(binary)
            self.replica: LocalServer = self._serve(binary, "--replicaof", f"127.0.0.1 {self.primary.port}")
            for _ in range(3):
                self.sentinels.append(Sentinel(self.primary.port, binary))
            self.url: str = "redis+sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels) + "/jobs"
            wait_until(lambda: self._is_pair(self.primary, self.replica), WELL_S, "the sentinels know all")
        except BaseException:
            self.close()
            raise

    def _serve(self, binary: str | None, *args: str) -> LocalServer:
        # A primary that comes back before the sentinels tell it that it is one no more takes no writes without replica.
        safe = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--repl-ping-replica-period", "1")
        self.servers.append(LocalServer("--repl-diskless-sync-delay", "0", *safe, *args, binary=binary, aof="everysec"))
        return self.servers[-1]

    def _is_pair(self, primary: LocalServer, replica: LocalServer) -> bool:
        well = "status=ok,address=127.0.0.1:%d,slaves=1,sentinels=3" % primary.port  # noqa: UP031
        return all(_says(one, well, "INFO", "sentinel") for one in self.sentinels) and _follows(replica)

    def fail_over(self) -> None:
        """The primary gets SIGKILL, and comes back as a replica of the one that the sentinels put in its place. If that
        takes them too long, they give it up, and the old primary is the primary again."""
        old, new = self.primary, self.replica
        old.kill()
        wait_until(lambda: _leads(new), WELL_S, "the replica is the primary")
        old.start()
        wait_until(lambda: self._is_pair(new, old) or self._is_pair(old, new), WELL_S, "the sentinels know the primary")
        if self._is_pair(new, old):
            self.primary, self.replica = new, old

    def close(self) -> None:
        """Kill all."""
        for server in (*self.sentinels, *self.servers):
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
