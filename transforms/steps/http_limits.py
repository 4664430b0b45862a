"""How many HTTP calls may be under way at the same time, in all and to one host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from transforms.steps.http_settings import HttpCallSettings

_Host = tuple[str, str, int | None]


@dataclass(slots=True)
class _Slots:
    """What one host has room for."""

    free: asyncio.Semaphore
    users: int = 0


class CallLimits:
    """The limits of one step, or of all steps that use one step module. Belongs to the loop's thread."""

    def __init__(self, concurrency: int | None, per_host: int | None) -> None:
        """`concurrency` of None: whoever calls keeps it."""
        self._all = None if concurrency is None else asyncio.Semaphore(concurrency)
        self._per_host = per_host
        self._hosts: dict[_Host, _Slots] = {}

    @contextlib.asynccontextmanager
    async def slot(self, url: httpx.URL) -> AsyncIterator[None]:
        """Wait until there is room for one more call: before the call's own time begins.

        For the host first, so that a call which waits for a busy host holds up no call to another.
        """
        async with self._of_host(url), self._all or contextlib.nullcontext():
            yield

    @contextlib.asynccontextmanager
    async def _of_host(self, url: httpx.URL) -> AsyncIterator[None]:
        if self._per_host is None:
            yield
            return
        host = (url.scheme, url.host, url.port)
        slots = self._hosts.get(host)
        if slots is None:
            slots = self._hosts[host] = _Slots(asyncio.Semaphore(self._per_host))
        slots.users += 1
        try:
            async with slots.free:
                yield
        finally:
            slots.users -= 1
            if not slots.users:  # events may name many hosts
                del self._hosts[host]


def limits_of(settings: HttpCallSettings, common: dict[str, object] | None) -> CallLimits:
    """Return a step's limits; where it uses a module, those that it shares with its other users."""
    per_host = settings.connections.per_host
    if common is None:
        return CallLimits(None, per_host)
    found = common.setdefault("http calls", CallLimits(settings.concurrency, per_host))
    assert isinstance(found, CallLimits)  # noqa: S101 - nobody else takes that name
    return found
