"""A small real HTTP proxy: CONNECT for https, forwarding for http, a password if asked for."""

from __future__ import annotations

import base64
import select
import socket
import threading
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, credentials=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.expected = None
        if credentials is not None:
            self.expected = f"Basic {base64.b64encode(credentials.encode()).decode()}"

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Say nothing: a client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *args):
        pass

    def refused(self):
        expected = self.server.expected
        if expected is None or self.headers.get("proxy-authorization") == expected:
            return False
        self.send_response(407)
        self.send_header("content-length", "0")
        self.end_headers()
        return True

    def do_CONNECT(self):
        self.server.asked.append(f"CONNECT {self.path}")
        if self.refused():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as upstream:
            self.send_response(200)
            self.end_headers()
            pair = [self.connection, upstream]
            with suppress(OSError):
                while True:
                    for ready in select.select(pair, [], [], 20)[0] or [None]:
                        part = ready.recv(65536) if ready else b""
                        if not part:
                            self.close_connection = True
                            return
                        (upstream if ready is self.connection else self.connection).sendall(part)

    def do_GET(self):
        self.server.asked.append(f"GET {self.path}")
        if self.refused():
            return
        url = urlsplit(self.path)
        connection = HTTPConnection(url.hostname, url.port, timeout=10)
        connection.request("GET", url.path or "/")
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers.get("content-type", "text/plain"))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def proxying(credentials=None):
    proxy = Proxy(credentials)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join(10)
        proxy.server_close()
