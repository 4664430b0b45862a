"""The HTTP server: uvicorn on a socket that listens already, bounded in what it takes in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from flows.plan import FlowPlan
from flows.spec.server import parse_tokens
from penstock.api.access import Access
from penstock.api.app import Api
from penstock.api.calls import Backend
from penstock.api.hooks import Hooks, is_hook
from penstock.api.live import Live
from penstock.api.readers import ReaderThreads
from penstock.api.routes import ROUTES

MOST_CONNECTIONS = 128
"""More are closed at once: files are the supervisor's too, which needs some to start a worker."""

HEAD_WITHIN = 10.0
"""Seconds in which a connection's first request must have come."""


def serve(
    plan: FlowPlan,
    live: Live,
    listener: socket.socket,
    started_at: float,
    stop: threading.Event,
    *,
    is_draining: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until `stop` is set and what is in flight is answered. Any thread but the main one."""
    threads = ReaderThreads(plan.state_url)
    access = Access(parse_tokens(plan.server.tokens) if plan.server.tokens else ())
    hooks = Hooks(plan, is_draining) if any(map(is_hook, plan.sources)) else None
    api = Api(Backend(plan, live, started_at), access, threads, ROUTES, hooks=hooks)
    config = uvicorn.Config(
        api,
        http=_Bounded,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )
    try:
        asyncio.run(_Stoppable(config, stop).serve(sockets=[listener]))
    finally:
        if hooks is not None:
            hooks.close()
        threads.close()


class _Stoppable(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @override
    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether to end."""
        return self._stop.is_set() or await super().on_tick(counter)


class _Bounded(H11Protocol):
    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self.loop.call_later(HEAD_WITHIN, self._end_if_silent)

    def _end_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()
