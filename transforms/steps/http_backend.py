"""Connects for `http_call`: to hosts that the flow names, and to addresses that the guard lets pass."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from transforms.steps.http_guard import Allowed


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that `allowed` lets pass, and to `trusted`: hosts that the flow names."""

    def __init__(self, allowed: Allowed, trusted: Iterable[str] = ()) -> None:
        self._allowed = allowed
        self._trusted = frozenset(trusted)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, and connect to the first checked address that answers."""
        plain = host.strip("[]").lower()
        if plain in self._trusted or self._allowed.name(plain):
            return WatchedStream(
                await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        addresses = await _resolved(plain, port, timeout)
        self._allowed.check(plain, addresses)
        failure: Exception = httpcore.ConnectError(f"{plain} has no address")
        for address in addresses:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return WatchedStream(
                    await self._inner.connect_tcp(
                        address, port, left, local_address, socket_options
                    )
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class WatchedStream(httpcore.AsyncNetworkStream):
    """A connection that tells cheaply whether its server has closed it.

    The pool asks that of every idle connection with every request. Through anyio each answer takes
    the system's names of both ends and a new poll object: with 16 connections, a sixth of a call.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._socket = inner.get_extra_info("socket")
        self._poll: Any = None
        if self._socket is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, or b"" at the end."""
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return the connection as it is over TLS."""
        return WatchedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection; `is_readable`: it is closed, or says something."""
        if info != "is_readable" or self._poll is None:
            return self._inner.get_extra_info(info)
        # A socket that is closed has no number; the one it had may be another's by now.
        return self._socket.fileno() < 0 or bool(self._poll.poll(0))


async def _resolved(host: str, port: int, seconds: float | None) -> list[str]:
    """Return the host's addresses as the system resolves it: decimal and octal spellings too."""
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(
            loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), seconds
        )
    except (asyncio.TimeoutError, TimeoutError):
        raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from None
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
