"""The customer service that the demo's flow asks: mostly right, sometimes slow, sometimes wrong.

    GET /api/customers/<id>    200 and the customer as JSON; 404 for one it doesn't know

How it misbehaves depends on the seed, the customer and how often that one was asked for, and
not on the order in which concurrent requests happen to arrive.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Literal, final

from penstock.demo.shop import Customer

Mood = Literal["well", "slow", "error", "garbage", "missing"]

_PREFIX = "/api/customers/"


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """How large a share of the answers is slow (and right), or wrong in which way."""

    slow: float = 0.05
    slow_seconds: float = 0.3
    error: float = 0.01
    """500"""
    garbage: float = 0.01
    """200, with a body that is not JSON though it says so"""
    missing: float = 0.01
    """404, for a customer that exists"""


@final
class CustomerService:
    """The service, on a free port of 127.0.0.1; a context manager that serves while it is entered.

    `find` returns the customer of an id, or None. `answered` counts answers by mood.
    """

    def __init__(
        self,
        find: Callable[[str], Customer | None],
        seed: int = 1,
        misbehaviour: Misbehaviour | None = None,
    ) -> None:
        self.answered: Counter[Mood] = Counter()
        self._find = find
        self._seed = seed
        self._misbehaviour = misbehaviour or Misbehaviour()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="customer-service", daemon=True
        )

    @property
    def url(self) -> str:
        """The service's base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CustomerService:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.disconnect_all()
        self._server.server_close()  # waits for the handlers' threads
        self._thread.join()

    def mood(self, customer_id: str, turn: int) -> Mood:
        """Return how the `turn`-th question (0, 1, …) for a customer is answered."""
        digest = hashlib.blake2b(f"{self._seed}/{customer_id}/{turn}".encode(), digest_size=8)
        dice = int.from_bytes(digest.digest(), "big") / 2**64
        shares: Mapping[Mood, float] = {
            "error": self._misbehaviour.error,
            "garbage": self._misbehaviour.garbage,
            "missing": self._misbehaviour.missing,
            "slow": self._misbehaviour.slow,
        }
        for mood, share in shares.items():
            if dice < share:
                return mood
            dice -= share
        return "well"

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body of the answer to GET `path`; takes its time when slow."""
        customer_id = path.removeprefix(_PREFIX)
        customer = self._find(customer_id) if path.startswith(_PREFIX) else None
        if customer is None:
            return 404, _error("no such customer")
        with self._lock:
            turn = self._asked[customer_id]
            self._asked[customer_id] += 1
            mood = self.mood(customer_id, turn)
            self.answered[mood] += 1
        if mood == "error":
            return 500, _error("the customer database is having a moment")
        if mood == "garbage":
            return 200, b'{"id": "' + customer_id.encode() + b'", "name": <!doctype html>'
        if mood == "missing":
            return 404, _error("no such customer")
        if mood == "slow":
            self._stopping.wait(self._misbehaviour.slow_seconds)
        return 200, json.dumps(asdict(customer)).encode()


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def _handler(service: CustomerService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One write per answer: head and body apart would wait for the client's delayed ACK.
        wbufsize: ClassVar[int] = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            status, body = service.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Stay quiet: the terminal is the flow's."""

    return Handler


class _Server(ThreadingHTTPServer):
    """Waits for its handlers at the end, so it must be able to end their idle connections."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about clients that went away in the middle of an answer."""

    def disconnect_all(self) -> None:
        """End the connections that wait for a next request; one that answers finishes first."""
        with self._lock:
            for connection in self._connections:
                connection.shutdown(socket.SHUT_RD)


__all__ = ["CustomerService", "Misbehaviour", "Mood"]
