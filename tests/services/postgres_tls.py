"""TLS in front of a real PostgreSQL, whose binaries in the wheel are built without it.

Answers the client's SSLRequest as a server does (protocol-flow, "SSL Session Encryption"), and passes
on what comes in over TLS. A client that doesn't ask for TLS is refused.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_GSS_REQUEST = struct.pack("!II", 8, 80877104)


class TlsFront:
    """Listens on 127.0.0.1; `port` is where."""

    def __init__(self, upstream: int, context: ssl.SSLContext) -> None:
        self._upstream = upstream
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.served = 0
        """Connections that spoke TLS."""
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Accept until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._handle, client)

    def close(self) -> None:
        """End everything and wait."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _start(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _handle(self, client: socket.socket) -> None:
        self._sockets.append(client)
        with contextlib.suppress(OSError):
            while (asked := client.recv(8)) == _GSS_REQUEST:
                client.sendall(b"N")
            if asked != _SSL_REQUEST:
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(b"S")
            secure = self._context.wrap_socket(client, server_side=True)
            self._sockets.append(secure)
            server = socket.create_connection(("127.0.0.1", self._upstream))
            self._sockets.append(server)
            self.served += 1
            self._start(_pass_on, server, secure)
            _pass_on(secure, server)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
    except OSError:
        pass
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_front(upstream: int, context: ssl.SSLContext) -> Iterator[TlsFront]:
    """Give TLS in front of the server on port `upstream`."""
    front = TlsFront(upstream, context)
    accepting = threading.Thread(target=front.serve, daemon=True)
    accepting.start()
    try:
        yield front
    finally:
        front.close()
        accepting.join(10)
