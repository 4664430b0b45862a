"""The one HTTP client of a process: an event loop on a thread of its own, shared by all steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from threading import Lock, Thread
from typing import Any, TypeVar

import httpx

from transforms.steps.http_answers import Answer, followed
from transforms.steps.http_requests import Request

_REDIRECTS = 5
_KEPT_ALIVE = 256
_CLOSING = 3.0
"""Seconds that connections have to close."""

T = TypeVar("T")
Done = Callable[[Request, Answer | Exception], None]


class HttpClient:
    """Sends requests and waits for their answers. Take it with `shared_client`."""

    def __init__(self) -> None:
        self.users = 0
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="http-call", daemon=True)
        self._thread.start()
        self._client = self._wait_for(self._open())

    async def _open(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            # One customer's cookies must not travel with the next one's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Not from the environment: proxies and .netrc passwords would come as a surprise.
            trust_env=False,
            timeout=None,  # noqa: S113 - `_bounded` ends every exchange
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT_ALIVE),
        )

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def send(
        self,
        chains: Sequence[Sequence[Request]],
        done: Done,
        *,
        concurrency: int,
        timeout: float,
        max_response: int,
    ) -> None:
        """Send all requests and wait for all answers.

        The requests of one chain go one after another, `concurrency` chains at a time. `done` is
        called on the loop's thread with each request's answer, or the exception in its place.
        """
        self._wait_for(self._send(chains, done, concurrency, timeout, max_response))

    async def _send(
        self,
        chains: Sequence[Sequence[Request]],
        done: Done,
        concurrency: int,
        timeout: float,
        max_response: int,
    ) -> None:
        waiting = deque(chains)

        async def work() -> None:
            while waiting:
                for request in waiting.popleft():
                    done(request, await self._bounded(request, timeout, max_response))

        await asyncio.gather(*(work() for _ in range(min(len(waiting), concurrency))))

    async def _bounded(
        self,
        request: Request,
        timeout: float,
        max_response: int,
    ) -> Answer | Exception:
        try:
            return await asyncio.wait_for(self._exchange(request, max_response), timeout)
        except Exception as error:  # noqa: BLE001 - handed over as the event's failure
            return error

    async def _exchange(self, request: Request, max_response: int) -> Answer:
        """Send one request, and follow redirects as far as `followed` lets it."""
        url = request.url
        for _ in range(_REDIRECTS):
            answer = await self._one(request, url, max_response)
            target = followed(answer, request.method)
            if target is None:
                return answer
            url = target
        return answer

    async def _one(self, request: Request, url: httpx.URL, max_response: int) -> Answer:
        built = self._client.build_request(
            request.method, url, headers=request.headers, content=request.body
        )
        response = await self._client.send(built, stream=True)
        try:
            parts: list[bytes] = []
            length = 0
            async for part in response.aiter_bytes():
                parts.append(part)
                length += len(part)
                if length > max_response:
                    return Answer(url, response.status_code, response.headers, b"", too_long=True)
            return Answer(url, response.status_code, response.headers, b"".join(parts))
        finally:
            await response.aclose()

    def stop(self) -> None:
        """Close the connections and end the thread."""
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError, httpx.HTTPError):
            self._wait_for(asyncio.wait_for(self._client.aclose(), _CLOSING))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING)
        if not self._thread.is_alive():
            self._loop.close()


_lock = Lock()
_shared: list[HttpClient] = []


def shared_client() -> HttpClient:
    """Return the process's client, made now if nobody has it; give it back with `release`."""
    with _lock:
        if not _shared:
            _shared.append(HttpClient())
        _shared[0].users += 1
        return _shared[0]


def release(client: HttpClient) -> None:
    """Give the client back; the last one to do so closes it."""
    with _lock:
        client.users -= 1
        if client.users or client not in _shared:
            return
        _shared.remove(client)
    client.stop()
