"""The port of `/metrics`: an HTTP server whose threads and patience have a limit.

A server that gives each connection a thread for as long as it is open is stopped by a client that opens hundreds.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["MAX_CONNECTIONS", "TIMEOUT_S", "start_server"]

MAX_CONNECTIONS = 16
"""Connections served at once; one more is closed at once. Prometheus needs one for each of its servers."""
TIMEOUT_S = 5.0
"""How long a client may be silent."""


class _Handler(WSGIRequestHandler):
    timeout = TIMEOUT_S  # of each read and write; see StreamRequestHandler

    def setup(self) -> None:
        super().setup()
        # A client that sends a byte now and then is cut off all the same.
        self._cut_off = threading.Timer(2 * (self.timeout or 0), self._shut)
        self._cut_off.daemon = True
        self._cut_off.start()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        self._cut_off.cancel()
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class' name
        """Requests are not logged."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*args)

    def server_bind(self) -> None:
        # Not WSGIServer's: it asks the DNS for this machine's name, which may take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is cut off, or talks no HTTP, is not worth a traceback."""


def start_server(application: Callable[..., Any], host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Serve a WSGI application from a daemon thread.

    Raises:
        OSError: the port is taken, or the address is not of this machine.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    kind = type("_Server", (_Server,), {"address_family": family})
    server = kind((host, port), _Handler)
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever, name="redsched metrics", daemon=True)
    thread.start()
    return server, thread
