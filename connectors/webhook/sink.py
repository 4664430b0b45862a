"""`sink.webhook`: an HTTP request per event, concurrent across keys, in order within one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from connectors.cloudevents import (
    HTTP_PREFIX,
    JSON_TYPE,
    STRUCTURED_TYPE,
    binary_headers,
    bodies,
    structured,
)
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.rendering import EventTemplate
from connectors.webhook.answers import error_of_answer, error_of_exception, followed, origin_of
from connectors.webhook.settings import WebhookSenderSettings, WebhookSettings

_READ_OF_ANSWER = 65536
"""Bytes of an answer that are read, so that the connection can be used again; then it is closed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Message:
    index: int
    url: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class WebhookSink:
    """The sink. Requests run on an event loop on a thread of its own; `deliver` waits for them."""

    def __init__(self, name: str, settings: WebhookSettings | WebhookSenderSettings) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(
            ordered=True,
            delivery="at_least_once",
            topics=settings.url is None,
            embeds=settings.format == "cloudevents_structured",
        )
        auth = settings.auth
        named = [auth.bearer, auth.password] if auth else []
        self._secrets = [text for text in [*named, *settings.headers.values()] if text]
        self._template: EventTemplate | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._client: httpx.AsyncClient | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Connect to the host of a constant URL, with TLS where it is https; send nothing."""
        urls = list(topics) if self._settings.url is None else [self._settings.url]
        if self._settings.proxy:
            urls = [self._settings.proxy]
        for url in urls:
            if "{{" in urlsplit(url).netloc or "://" not in url.partition("{{")[0]:
                yield Check("host", ok=True, found=f"not looked at: {url} is a template")
            else:
                yield self._reachable(url)

    def _reachable(self, url: str) -> Check:
        parts = urlsplit(url.partition("{{")[0])
        origin = origin_of(url.partition("{{")[0])
        port = parts.port or (443 if parts.scheme == "https" else 80)
        seconds = min(self._settings.timeout, 5.0)
        try:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(
                    socket.create_connection((parts.hostname or "", port), seconds)
                )
                found = "reachable"
                if parts.scheme == "https":
                    secured = self._tls().wrap_socket(connection, server_hostname=parts.hostname)
                    found = f"reachable, {stack.enter_context(secured).version()}"
        except ssl.SSLCertVerificationError as error:
            return Check(
                origin,
                ok=False,
                found=error.verify_message,
                hint="Name its authority in `ca_file`.",
            )
        except OSError as error:
            return Check(
                origin,
                ok=False,
                found=error.strerror or str(error),
                hint="Is the receiver running, and the URL right?",
                unreachable=True,
            )
        except FatalError as error:
            return Check(origin, ok=False, found=error.message, hint=error.hint)
        return Check(origin, ok=True, found=found)

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise FatalError(
                f"the certificates of {self._settings.ca_file} can't be read: {error}.",
                code="webhook_ca_file",
                hint="It must be a PEM file that this user can read.",
            ) from error
        if not self._settings.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def open(self, opening: SinkOpening) -> None:
        """Start the event loop; connections are made by the first requests."""
        settings = self._settings
        if settings.url is not None:
            self._template = EventTemplate(settings.url, opening.compile_template)
        tls = self._tls()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(
            target=self._loop.run_forever, name=f"webhook-{self._name}", daemon=True
        )
        self._thread.start()
        self._client = self._on_loop(self._make_client(tls))

    async def _make_client(self, tls: ssl.SSLContext) -> httpx.AsyncClient:
        settings = self._settings
        auth: httpx.Auth | None = None
        headers = {"user-agent": "penstock"}
        if settings.auth and settings.auth.bearer:
            headers["authorization"] = f"Bearer {settings.auth.bearer}"
        elif settings.auth:
            auth = httpx.BasicAuth(settings.auth.username or "", settings.auth.password or "")
        return httpx.AsyncClient(
            auth=auth,
            headers=headers,
            verify=tls,
            proxy=settings.proxy,
            # Not from the environment: proxies and .netrc passwords would come as a surprise.
            trust_env=False,
            timeout=settings.timeout,
            limits=httpx.Limits(
                max_connections=settings.concurrency,
                max_keepalive_connections=settings.concurrency,
            ),
        )

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None  # noqa: S101 - the contract: open comes first
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Send each event and wait for all answers."""
        if not len(events):
            return {}
        messages, failures = self._messages(events)
        chains: dict[object, list[_Message]] = {}
        for message in messages:
            key = events.keys[message.index]
            chains.setdefault(message.index if key is None else key, []).append(message)
        failures.update(self._on_loop(self._send_all(list(chains.values()))))
        return failures

    def _messages(self, events: Outgoing) -> tuple[list[_Message], dict[int, PenstockError]]:
        groups, failures = self._urls(events)
        urls = {index: url for url, indexes in groups.items() for index in indexes}
        contents: Sequence[bytes | None]
        headers: list[list[tuple[str, bytes]]]
        if self._settings.format == "cloudevents_structured":
            contents = structured(events)
            headers = [[("content-type", STRUCTURED_TYPE.encode())]] * len(events)
        elif self._settings.format == "cloudevents_binary":
            contents = bodies(events)
            headers = binary_headers(events, HTTP_PREFIX)
        else:
            contents = [b"null" if value is None else value for value in events.values]
            headers = [[("content-type", JSON_TYPE.encode())]] * len(events)
        own = [(name.encode(), text.encode()) for name, text in self._settings.headers.items()]
        replaced = {name.lower() for name, _ in own}
        messages = []
        for index in sorted(urls):
            made = [(name.encode(), value) for name, value in headers[index]]
            kept = [pair for pair in made if pair[0] not in replaced]
            messages.append(_Message(index, urls[index], kept + own, contents[index] or b""))
        return messages, failures

    def _urls(self, events: Outgoing) -> tuple[dict[str, Sequence[int]], dict[int, PenstockError]]:
        if self._template is not None:
            return self._template.group(events)
        if events.topic is not None:
            return {events.topic: range(len(events))}, {}
        missing = FatalError(
            f"the sink {self._name} has no URL to send to.",
            code="webhook_url",
            hint="Set its `url`, or give the publish step a `topic` that is one.",
        )
        return {}, dict.fromkeys(range(len(events)), missing)

    async def _send_all(self, chains: list[list[_Message]]) -> dict[int, PenstockError]:
        """Send the chains, `concurrency` of them at a time, each in order."""
        failures: dict[int, PenstockError] = {}
        waiting = deque(chains)

        async def work() -> None:
            while waiting:
                await self._send_chain(waiting.popleft(), failures)

        await asyncio.gather(*(work() for _ in range(min(len(chains), self._settings.concurrency))))
        return failures

    async def _send_chain(self, chain: list[_Message], failures: dict[int, PenstockError]) -> None:
        """Send events of one key. What comes after one that will be tried again has to wait."""
        for place, message in enumerate(chain):
            error = await self._send(message)
            if error is None:
                continue
            failures[message.index] = error
            if isinstance(error, PermanentError):
                continue
            behind = RetryableError(
                "not sent yet: an earlier event of its key was not delivered.",
                code="webhook_behind",
                hint=f"The earlier one: {error.message}",
                retry_after=error.retry_after if isinstance(error, RetryableError) else None,
            )
            failures.update(dict.fromkeys((later.index for later in chain[place + 1 :]), behind))
            return

    async def _send(self, message: _Message) -> PenstockError | None:
        delay = 0.1
        for tries_left in range(self._settings.max_retries, -1, -1):
            error = await self._try(message)
            if not isinstance(error, RetryableError) or not tries_left:
                return error
            await asyncio.sleep(min(error.retry_after or delay, 5.0))
            delay = min(delay * 2, 5.0)
        return None

    async def _try(self, message: _Message) -> PenstockError | None:
        try:
            return await asyncio.wait_for(self._exchange(message), self._settings.timeout)
        except (httpx.HTTPError, OSError, asyncio.TimeoutError, ValueError) as error:
            return error_of_exception(message.url, error, self._settings.timeout)
        except httpx.InvalidURL as error:
            return PermanentError(
                f"the event's URL is none: {error}.",
                code="webhook_url",
                hint="Check what `url` renders to.",
            )

    async def _exchange(self, message: _Message) -> PenstockError | None:
        client = self._client
        assert client is not None  # noqa: S101 - the contract: open comes first
        url = message.url
        for _ in range(6):
            request = client.build_request(
                self._settings.method, url, headers=message.headers, content=message.body
            )
            response = await client.send(request, stream=True)
            try:
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) >= _READ_OF_ANSWER:
                        break
            finally:
                await response.aclose()
            location = response.headers.get("location")
            target = followed(url, response.status_code, location)
            if target is None or not self._settings.follow_redirects:
                break
            url = target
        return error_of_answer(
            url,
            response.status_code,
            response.headers,
            body,
            secrets=self._secrets,
            now=datetime.now(timezone.utc),
        )

    def settled_state(self) -> Mapping[str, str] | None:
        """Return None: a receiver can't take a request back."""
        return None

    def close(self) -> None:
        """Close the connections and end the thread."""
        loop, thread, client = self._loop, self._thread, self._client
        if loop is None or thread is None:
            return
        if client is not None:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError, httpx.HTTPError):
                self._on_loop(asyncio.wait_for(client.aclose(), 3))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(2)
        if not thread.is_alive():
            loop.close()
        self._loop = self._thread = self._client = None
