"""The connections of `http_call` to the servers that it reaches without a proxy.

httpcore's own pool goes through all of its connections with every request, and for each of them through
all of them again: with 16 that is a third of a call's CPU (measured with httpcore 1.0.9). Here a request
takes the connection that was used last, and looks at the one that has been idle for longest.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpcore

_Origin = tuple[bytes, bytes, int]

_PORTS = {b"http": 80, b"https": 443}


class ConnectionPool:
    """Stands in for `httpcore.AsyncConnectionPool`, of HTTP/1.1. Belongs to the loop's thread.

    A connection has one request at a time and there is no limit to those in use: who calls has one.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        network_backend: httpcore.AsyncNetworkBackend,
        *,
        idle: int,
        keepalive_expiry: float,
    ) -> None:
        """`idle`: so many connections are kept open that nobody uses, for `keepalive_expiry` seconds."""
        self._ssl_context = ssl_context
        self._backend = network_backend
        self._most_idle = idle
        self._expiry = keepalive_expiry
        self._idle: dict[_Origin, list[httpcore.AsyncHTTPConnection]] = {}
        # All that are idle, those first that have been for longest.
        self._since: dict[httpcore.AsyncHTTPConnection, _Origin] = {}
        self._used: set[httpcore.AsyncHTTPConnection] = set()

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send it and return the answer's beginning; its stream has to be closed."""
        scheme = request.url.scheme
        if scheme not in _PORTS:
            raise httpcore.UnsupportedProtocol(f"{scheme.decode()!r} is neither http nor https")
        origin = (scheme, request.url.host, request.url.port or _PORTS[scheme])
        await self._close_expired()
        while True:
            connection = await self._take(origin)
            if connection is None:
                connection = self._connection(request)
            self._used.add(connection)
            try:
                response = await connection.handle_async_request(request)
            except httpcore.ConnectionNotAvailable:
                await self._drop(connection)
            except BaseException:
                await self._drop(connection)
                raise
            else:
                break
        return httpcore.Response(
            status=response.status,
            headers=response.headers,
            content=_Body(response.stream, self, connection, origin),
            extensions=response.extensions,
        )

    def _connection(self, request: httpcore.Request) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            request.url.origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=self._expiry,
            network_backend=self._backend,
        )

    async def _take(self, origin: _Origin) -> httpcore.AsyncHTTPConnection | None:
        """Return the connection to a server that was used last and is still good; None without one."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            del self._since[connection]
            if not idle:
                del self._idle[origin]
            if connection.is_available() and not connection.has_expired():
                return connection
            await connection.aclose()
            idle = self._idle.get(origin)
        return None

    async def _close_expired(self) -> None:
        """Close what nobody has asked for in time; events may name many servers, each once."""
        while self._since:
            connection = next(iter(self._since))
            if not connection.has_expired():
                return
            await self._forget(connection)

    async def _forget(self, connection: httpcore.AsyncHTTPConnection) -> None:
        origin = self._since.pop(connection)
        idle = self._idle[origin]
        idle.remove(connection)
        if not idle:
            del self._idle[origin]
        await connection.aclose()

    async def _drop(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._used.discard(connection)
        await connection.aclose()

    async def release(self, connection: httpcore.AsyncHTTPConnection, origin: _Origin) -> None:
        """Keep a connection whose answer is over for the next request, if it can be used again."""
        if connection not in self._used or not connection.is_idle():
            await self._drop(connection)
            return
        self._used.discard(connection)
        self._idle.setdefault(origin, []).append(connection)
        self._since[connection] = origin
        if len(self._since) > self._most_idle:
            await self._forget(next(iter(self._since)))

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        connections = [*self._since, *self._used]
        self._idle, self._since, self._used = {}, {}, set()
        for connection in connections:
            await connection.aclose()


class _Body:
    """The stream of an answer, which gives its connection back when it is closed."""

    def __init__(
        self,
        stream: Any,
        pool: ConnectionPool,
        connection: httpcore.AsyncHTTPConnection,
        origin: _Origin,
    ) -> None:
        self._stream = stream
        self._pool = pool
        self._connection = connection
        self._origin = origin
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                await self._stream.aclose()
            finally:
                await self._pool.release(self._connection, self._origin)
