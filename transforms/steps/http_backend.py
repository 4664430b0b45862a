"""Connects for `http_call`: to hosts that the flow names, and to addresses that the guard lets pass."""

from __future__ import annotations

import asyncio
import socket
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
            return await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        deadline = None if timeout is None else time.monotonic() + timeout
        addresses = await _resolved(plain, port, timeout)
        self._allowed.check(plain, addresses)
        failure: Exception = httpcore.ConnectError(f"{plain} has no address")
        for address in addresses:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return await self._inner.connect_tcp(
                    address, port, left, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


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
