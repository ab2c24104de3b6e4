"""A worker process of `redsched worker --processes N`: `python -m redsched.cli.child <fd>`.

The parent holds the other end of a socket. It sends the settings as one line of JSON (any user of the machine can read
an argument list, and a URL may contain a password), then `drain` with its time, and `now`. When the socket is closed,
the parent is gone, and the child drains too. Each time the child starts to serve, it sends `ready` and its grace time
in seconds.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from redsched.cli import service
from redsched.cli.service import Settings
from redsched.cli.stopping import Stop

__all__ = ["DRAIN", "NOW", "READY", "main"]

DRAIN, NOW, READY = b"drain", b"now\n", b"ready"


def _read_line(link: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = link.recv(1)  # not more: the rest is read by the event loop
        if not byte:
            break
        line += byte
    return line


def main() -> None:
    """Serve with the parent's settings, and exit with one of `ExitCode`."""
    link = socket.socket(fileno=int(sys.argv[1]))
    line = _read_line(link)
    if not line:
        sys.exit(0)
    settings = Settings.from_json(line)
    link.setblocking(False)
    service.own_process()

    def connect(stop: Stop) -> None:
        loop = asyncio.get_running_loop()
        stop.listen(once=True)

        def obey() -> None:
            """Handle the parent's messages: `drain` with its time (time.monotonic()), or `now`."""
            try:
                words = link.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                words = b""
            for line in words.splitlines():
                word, _, at = line.partition(b" ")
                if word == DRAIN:
                    stop.note("the stop request", float(at))
            stop.asked.set()
            if NOW in words:
                stop.urged.set()
            if not words:
                loop.remove_reader(link)

        loop.add_reader(link, obey)

    def ready(grace: float) -> None:
        try:
            link.send(b"%s %f\n" % (READY, grace))
        except OSError:
            return  # the parent is gone: the reader will notice

    sys.exit(service.run(settings, ready=ready, connect=connect))


if __name__ == "__main__":
    main()
