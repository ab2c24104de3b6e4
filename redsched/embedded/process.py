"""The process of an embedded server: who listens at its socket, and which process it is.

Imports the standard library only, for the keeper.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from redsched.embedded.files import FolderError, open_file

__all__ = ["ask_to_end", "ping", "record_server", "recorded_pid", "signal_server", "user_behind"]


def user_behind(client: socket.socket) -> int | None:
    """The user who listens at the other end of a unix socket; None where the system does not tell."""
    with suppress(OSError, struct.error):
        if sys.platform == "linux":
            return struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        # struct xucred, on macOS and the BSDs: its version and the user.
        return struct.unpack_from("2I", client.getsockopt(0, 1, 76))[1]
    return None


def ping(path: Path) -> bytes:
    """What the server there says: `+PONG`, or `-LOADING` while it reads its data; nothing if there is none.

    Raises:
        FolderError: it is a server of another user.
    """
    user = None
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        client.connect(str(path))
        user = user_behind(client)
        if user in (None, os.geteuid()):
            client.sendall(b"PING\r\n")
            return client.recv(64)
    if user not in (None, os.geteuid()):
        raise FolderError(f"the server at {path} is one of uid {user}, not of this user (uid {os.geteuid()}); end it")
    return b""


def _started(pid: int | str) -> str:
    """When a process began, in the kernel's ticks since boot; "" where it is not there, or /proc is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def record_server(lock: int) -> None:
    """Write into the lock of the server who holds it: this process, and when it began."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {_started('self') or 0}\n".encode(), 0)


def _recorded(folder: Path) -> tuple[int, str, os.stat_result] | None:
    with suppress(OSError):
        descriptor = open_file(folder, "server.lock", os.O_RDONLY)
        try:
            text, found = os.pread(descriptor, 100, 0), os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if parts := re.fullmatch(rb"([1-9][0-9]{0,9}) ([0-9]{1,20})\n", text):
            return int(parts[1]), parts[2].decode(), found
    return None


def recorded_pid(folder: Path) -> int | None:
    """The process that the server's lock names, to show it. Only `signal_server` may signal one."""
    recorded = _recorded(folder)
    return recorded[0] if recorded else None


def signal_server(folder: Path, number: signal.Signals) -> bool:
    """Signal the folder's server, if it is proven to be that. False: nothing was signalled.

    A number in a file proves nothing: it may be anybody's by now. The process must be ours, have begun when the lock
    says, and have the lock open; and it is held by a descriptor meanwhile, so that no other gets its number.
    """
    recorded = _recorded(folder)
    if recorded is None or sys.platform != "linux" or recorded[0] in (1, os.getpid()):
        return False
    pid, started, lock = recorded
    try:
        process = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return False
    try:
        home = Path(f"/proc/{pid}")
        if home.stat().st_uid != os.geteuid() or _started(pid) != started:
            return False
        if not any(_is_same(each, lock) for each in (home / "fd").iterdir()):
            return False
        signal.pidfd_send_signal(process, number)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def _is_same(opened: Path, lock: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(opened.stat(), lock)
    return False


def ask_to_end(listening: str) -> None:
    """Tell the server at a socket of ours to end; its append-only file is complete then."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        client.connect(listening)
        if user_behind(client) == os.geteuid():
            client.sendall(b"SHUTDOWN NOSAVE\r\n")
            client.recv(64)
