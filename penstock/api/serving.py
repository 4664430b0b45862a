"""Runs the API beside the supervisor: a thread with an event loop of its own.

The address is bound at once, so that a port that is taken is told at the start. What serves it (an
HTTP server, routes, models: 100 ms and 20 MB) is imported when the first connection comes.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from connectors.errors import FlowFileError
from flows.plan import FlowPlan
from flows.spec.server import is_loopback, split_address

if TYPE_CHECKING:
    from penstock.api.live import Live

CLOSE_WITHIN = 4.0
"""Seconds that answers in flight get when the flow has ended."""

_BACKLOG = 64

log = structlog.get_logger("penstock.api")


def bind(address: str) -> socket.socket:
    """Return a socket that listens. Raises FlowFileError `server_address`, naming the key."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _not_bound(address, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _not_bound(address, error) from error
    return listener


def _not_bound(address: str, error: OSError) -> FlowFileError:
    reason = "another process listens there" if error.errno == errno.EADDRINUSE else error.strerror
    return FlowFileError(
        f"the API can't be served at {address}: {reason}.",
        code="server_address",
        hint="Name another server.address in the flow file, or give --address HOST:PORT;"
        " --no-server runs without it.",
    )


def check_guarded(plan: FlowPlan, address: str) -> None:
    """Raise FlowFileError for an address that others reach while there are no tokens."""
    if plan.server.tokens is None and not is_loopback(split_address(address)[0]):
        raise FlowFileError(
            f"{address} is reached from other machines, and the flow has no tokens.",
            code="server_tokens_missing",
            hint="Add server.tokens to the flow file, or listen on 127.0.0.1.",
        )


@dataclass(slots=True)
class ApiServer:
    """The API of one run."""

    plan: FlowPlan
    live: Live
    listener: socket.socket
    started_at: float = field(default_factory=time.time)
    is_draining: Callable[[], bool] = lambda: False
    """Whether the flow is being stopped: webhooks are refused then."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _wake: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Return where it is, with the port that was chosen."""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Start the thread. It never holds up the process's end."""
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the answers in flight and stop listening, within a few seconds."""
        self._stop.set()
        self._wake[1].send(b"x")
        if self._thread is not None:
            self._thread.join(CLOSE_WITHIN)

    def _run(self) -> None:
        try:
            if self._called():
                from penstock.api.http_server import serve  # noqa: PLC0415 - see the module's text

                serve(
                    self.plan,
                    self.live,
                    self.listener,
                    self.started_at,
                    self._stop,
                    is_draining=self.is_draining,
                )
        except Exception:
            log.exception("the API has stopped; the flow goes on without it")
        finally:
            for each in (self.listener, *self._wake):
                each.close()

    def _called(self) -> bool:
        """Wait for the first connection; False when it is to stop before."""
        select.select([self.listener, self._wake[0]], [], [])
        return not self._stop.is_set()
