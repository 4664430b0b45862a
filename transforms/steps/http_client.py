"""The HTTP client of one step: its connections, limits, tokens and redirects."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpcore
import httpx

from connectors.errors import PenstockError
from transforms.steps.http_answers import Answer, followed
from transforms.steps.http_backend import GuardedBackend
from transforms.steps.http_bodies import BodyTooLongError, read_body
from transforms.steps.http_breaker import HttpBreakers, RefusedError, told_by
from transforms.steps.http_guard import Allowed, fixed_host
from transforms.steps.http_limits import CallLimits
from transforms.steps.http_loop import release, shared_loop
from transforms.steps.http_pool import ConnectionPool
from transforms.steps.http_requests import Request
from transforms.steps.http_settings import HttpCallSettings
from transforms.steps.http_tls import ssl_context
from transforms.steps.http_tokens import TokenSource

_REDIRECTS = 5
_CLOSING = 3.0
"""Seconds that connections have to close."""
_TOKEN_TIMEOUT = 30.0
_HARMLESS = {b"user-agent", b"accept", b"accept-encoding", b"connection", b"content-type"}
"""Headers that go with a redirect to another host."""

Done = Callable[[Request, Answer | Exception], None]

Judge = Callable[[Request, Answer | Exception], Answer | PenstockError]
"""Makes of an exception the error that it is for its event."""


class HttpClient:
    """Sends requests and waits for their answers."""

    def __init__(
        self,
        settings: HttpCallSettings,
        folder: Path,
        limits: CallLimits,
        breakers: HttpBreakers | None,
        judge: Judge,
    ) -> None:
        """Open it; nothing connects yet. Raises FlowFileError for files of `tls`."""
        self._settings = settings
        self._limits = limits
        self._breakers = breakers
        self._judge = judge
        tls = ssl_context(settings.tls, folder)
        host = fixed_host(settings.url)
        trusted = [] if host is None else [host]
        proxy = None if settings.proxy is None else httpx.Proxy(settings.proxy)
        if proxy is not None:
            trusted.append(proxy.url.raw_host.decode().strip("[]").lower())
        guard = GuardedBackend(Allowed(settings.allow_private), trusted)
        name = settings.tls.server_name if settings.tls else None
        self._extensions = {"sni_hostname": name} if name else {}
        self._transport = _Transport(settings, tls, proxy, guard)
        self._timeouts = {"timeout": _timeout(settings).as_dict()}
        self._tokens_client: httpx.AsyncClient | None = None
        self.tokens: TokenSource | None = None
        if settings.auth is not None and settings.auth.kind == "oauth2_client_credentials":
            # The flow names its host, so the guard is not for it, nor for events to use.
            free = GuardedBackend(Allowed(allow_private=True))
            self._tokens_client = _client(settings, _Transport(settings, tls, proxy, free))
            self.tokens = TokenSource(settings.auth, self._tokens_client, _TOKEN_TIMEOUT)
        self._loop = shared_loop()

    def send(self, chains: Sequence[Sequence[Request]], done: Done) -> None:
        """Send all requests and wait for all answers.

        The requests of one chain go one after another, `concurrency` chains at a time. `done` is
        called with each request's answer, or the exception in its place: RefusedError where the
        circuit is open, and for what comes later in the same chain. That is on the loop's thread, or
        on the caller's before that.
        """
        if self._breakers is not None:
            chains = self._allowed(self._breakers, chains, done)
        if chains:
            self._loop.wait_for(self._send(chains, done))

    def _allowed(
        self, breakers: HttpBreakers, chains: Sequence[Sequence[Request]], done: Done
    ) -> Sequence[Sequence[Request]]:
        """Return the chains that may call; the others are done.

        What waits for nothing has no use for another thread, whose turn comes late on a busy machine.
        """
        allowed: list[Sequence[Request]] = []
        for chain in chains:
            refused = breakers.refused(chain[0].url)
            if refused is None:
                allowed.append(chain)
                continue
            for request in chain:
                done(request, refused)
        return allowed

    async def _send(self, chains: Sequence[Sequence[Request]], done: Done) -> None:
        waiting = deque(chains)

        async def work() -> None:
            while waiting:
                await self._chain(waiting.popleft(), done)

        concurrency = min(len(waiting), self._settings.concurrency)
        await asyncio.gather(*(work() for _ in range(concurrency)))

    async def _chain(self, chain: Sequence[Request], done: Done) -> None:
        refused: Exception | None = None
        for request in chain:
            answer = refused or await self._guarded(request)
            if isinstance(answer, RefusedError):
                refused = answer
            done(request, answer)

    async def _guarded(self, request: Request) -> Answer | Exception:
        """Call, if the server's circuit lets us, and tell it what came of it."""
        if self._breakers is None:
            return await self._bounded(request)
        breaker = self._breakers.of(request.url)
        name, entry = await breaker.enter()
        if entry.verdict == "refused":
            return RefusedError(entry.seconds, breaker.reason)
        answer = self._judge(request, await self._bounded(request))
        await breaker.leave(name, *told_by(answer))
        return answer

    async def _bounded(self, request: Request) -> Answer | Exception:
        async with self._limits.slot(request.url):
            try:
                return await asyncio.wait_for(self._exchange(request), self._settings.timeout)
            except Exception as error:  # noqa: BLE001 - handed over as the event's failure
                return error

    async def _exchange(self, request: Request) -> Answer:
        """Send one request, and follow redirects as far as `followed` lets it."""
        url = request.url
        for _ in range(_REDIRECTS):
            at_home = _origin(url) == _origin(request.url) or _is_upgrade(request.url, url)
            answer = await self._authorized(request, url, at_home=at_home)
            target = followed(answer, request.method, self._settings.redirects)
            if target is None:
                return answer
            url = target
        return answer

    async def _authorized(self, request: Request, url: httpx.URL, *, at_home: bool) -> Answer:
        """Send it with the token, if there is one; once more with a new one if it is refused."""
        if not at_home:
            headers = [pair for pair in request.headers if pair[0] in _HARMLESS]
            return await self._one(request, url, headers, {})
        if self.tokens is None:
            return await self._one(request, url, request.headers, self._extensions)
        token = await self.tokens.token()
        answer = await self._one(request, url, _with(request, token), self._extensions)
        if answer.status != httpx.codes.UNAUTHORIZED:
            return answer
        token = await self.tokens.token_after(token)
        return await self._one(request, url, _with(request, token), self._extensions)

    async def _one(
        self,
        request: Request,
        url: httpx.URL,
        headers: list[tuple[bytes, bytes]],
        extensions: dict[str, str],
    ) -> Answer:
        # What httpx's client does besides (cookies, proxies of the environment, redirects, its own log)
        # is not wanted, and takes a fifth of a call.
        sent = httpx.Request(
            request.method,
            url,
            headers=headers,
            content=request.body,
            extensions={**self._timeouts, **extensions},
        )
        if url.userinfo:
            sent = next(httpx.BasicAuth(url.username, url.password).auth_flow(sent))
        response = await self._transport.handle_async_request(sent)
        try:
            body = await read_body(response, self._settings.max_response)
            return Answer(url, response.status_code, response.headers, body)
        except BodyTooLongError:
            return Answer(url, response.status_code, response.headers, b"", too_long=True)
        finally:
            await response.aclose()

    async def _close(self) -> None:
        await self._transport.aclose()
        if self._tokens_client is not None:
            await self._tokens_client.aclose()
        if self._breakers is not None:
            await self._breakers.close()

    def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError, httpx.HTTPError):
            self._loop.wait_for(asyncio.wait_for(self._close(), _CLOSING))
        release(self._loop)


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own, over connections that a guard opens."""

    def __init__(
        self,
        settings: HttpCallSettings,
        tls: ssl.SSLContext,
        proxy: httpx.Proxy | None,
        backend: GuardedBackend,
    ) -> None:
        super().__init__(verify=tls)
        kept = settings.connections
        # httpx has no way to name a network backend; httpcore has.
        if proxy is None:
            self._pool = ConnectionPool(  # type: ignore[assignment] # has what httpx uses of one
                tls, backend, idle=kept.idle, keepalive_expiry=kept.keep_alive
            )
            return
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            proxy=_proxy(proxy),
            max_connections=None,
            max_keepalive_connections=kept.idle,
            keepalive_expiry=kept.keep_alive,
            network_backend=backend,
        )


def _proxy(proxy: httpx.Proxy) -> httpcore.Proxy:
    return httpcore.Proxy(url=str(proxy.url), auth=proxy.raw_auth, headers=proxy.headers.raw)


def _client(settings: HttpCallSettings, transport: _Transport) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        # One customer's cookies must not travel with the next one's request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Not from the environment: proxies and .netrc passwords would come as a surprise.
        trust_env=False,
        timeout=_timeout(settings),
    )


def _timeout(settings: HttpCallSettings) -> httpx.Timeout:
    """Return what ends a call earlier than `_bounded`, which ends every one."""
    return httpx.Timeout(None, connect=settings.connect_timeout, read=settings.read_timeout)


def _with(request: Request, token: str) -> list[tuple[bytes, bytes]]:
    return [*request.headers, (b"authorization", f"Bearer {token}".encode())]


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _is_upgrade(here: httpx.URL, there: httpx.URL) -> bool:
    """Whether it is the same host over https, both at their usual ports."""
    schemes = (here.scheme, there.scheme)
    return schemes == ("http", "https") and (here.host, None, None) == (
        there.host,
        here.port,
        there.port,
    )
