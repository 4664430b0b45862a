"""One connection to SQS, for one thread: calls of its JSON protocol (AWS JSON 1.0).

Of our own, on Python's HTTP client. A call that waits for messages for 20 s must end at once when
the flow stops: its socket is at hand here. And a call costs a fifth of botocore's CPU.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import orjson

from connectors.aws import AwsSettings
from connectors.aws_sqs.credentials import Credentials
from connectors.aws_sqs.failures import at_start, away, code_of, of_answer
from connectors.aws_sqs.signing import signed
from connectors.errors import FatalError, PenstockError

TIMEOUT = 10.0
"""Seconds for connecting, and for an answer beyond what the call itself waits for."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Queue:
    """Which queue, where, and as whom; shared by the clients of a source or sink."""

    url: str
    host: str
    port: int
    tls: ssl.SSLContext | None
    credentials: Credentials

    @property
    def name(self) -> str:
        """Its name, the end of its URL."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def is_fifo(self) -> bool:
        """Whether it keeps the order of its message groups."""
        return self.name.endswith(".fifo")


def queue_of(settings: AwsSettings, queue_url: str) -> Queue:
    """Return the queue of a module's settings. Raises FatalError without credentials."""
    parts = urlsplit(settings.endpoint or queue_url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Queue(
        queue_url,
        parts.hostname or "",
        parts.port or _PORTS[parts.scheme],
        tls,
        Credentials(settings, queue_url),
    )


class Client:
    """Calls SQS; connects with the first call, and anew after an error."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        default = _PORTS["https" if queue.tls else "http"]
        self._host = queue.host if queue.port == default else f"{queue.host}:{queue.port}"
        self._connection: http.client.HTTPConnection | None = None
        self._interrupted = False
        self.server_time: float | None = None
        """When the last answer was given, by the server's clock, seconds since the epoch."""

    def call(self, action: str, parameters: Mapping[str, Any], *, waits: float = 0.0) -> Any:
        """Call SQS and return its answer; `waits` is how long the call itself may wait, in seconds.

        Raises RetryableError, PermanentError, FatalError.
        """
        queue = self.queue
        body = orjson.dumps({"QueueUrl": queue.url, **parameters})
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "host": self._host,
            "x-amz-target": f"AmazonSQS.{action}",
        }
        assert queue.credentials.region is not None  # noqa: S101 - checked when it was made
        headers = signed(
            headers,
            body,
            queue.credentials.keys(),
            region=queue.credentials.region,
            service="sqs",
            at=datetime.now(timezone.utc),
        )
        headers["user-agent"] = "penstock"
        try:
            status, answer = self._exchange(body, headers, waits)
        except (OSError, http.client.HTTPException) as error:
            self.drop()
            raise away(queue.host, error) from None
        if status == 200:
            try:
                return orjson.loads(answer) if answer else {}
            except orjson.JSONDecodeError:
                raise away(queue.host, "its answer is not JSON") from None
        raise self._error(status, answer)

    def _exchange(self, body: bytes, headers: dict[str, str], waits: float) -> tuple[int, bytes]:
        is_new = self._connection is None
        connection = self._connected(waits)
        try:
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # SQS closes connections that were idle: nobody has read the request.
            self.drop()
            if is_new or self._interrupted:
                raise
            connection = self._connected(waits)
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
        answer = response.read()
        date = response.getheader("date")
        if date is not None:
            with contextlib.suppress(ValueError):
                at = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")  # noqa: DTZ007 - next line
                self.server_time = at.replace(tzinfo=timezone.utc).timestamp()
        if response.will_close:
            self.drop()
        return response.status, answer

    def _connected(self, waits: float) -> http.client.HTTPConnection:
        connection = self._connection
        seconds = TIMEOUT + waits
        if connection is None:
            queue = self.queue
            if queue.tls is None:
                connection = http.client.HTTPConnection(queue.host, queue.port, timeout=TIMEOUT)
            else:
                connection = http.client.HTTPSConnection(
                    queue.host, queue.port, timeout=TIMEOUT, context=queue.tls
                )
            self._connection = connection
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._interrupted:
                self.interrupt()
        connection.sock.settimeout(seconds)
        return connection

    def _error(self, status: int, answer: bytes) -> PenstockError:
        try:
            found = orjson.loads(answer)
            code = code_of(str(found.get("__type") or found.get("Code") or ""))
            message = str(found.get("message") or found.get("Message") or "")
        except (orjson.JSONDecodeError, AttributeError):
            code, message = f"HTTP {status}", answer[:200].decode("utf-8", "replace")
        return of_answer(code or f"HTTP {status}", message, status, self.queue.name)

    def drop(self) -> None:
        """Disconnect; the next call connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """End what another thread waits for on this connection, now and from now on."""
        self._interrupted = True
        connection = self._connection
        found = None if connection is None else connection.sock
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


def depth(client: Client) -> tuple[int, int]:
    """Return how many messages wait, and how many are received and not deleted; about."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = client.call("GetQueueAttributes", {"AttributeNames": names})["Attributes"]
    return int(found.get(names[0], 0)), int(found.get(names[1], 0))


def first_depth(client: Client) -> tuple[int, int]:
    """Return `depth` of a queue that is being opened. Raises FatalError."""
    try:
        return depth(client)
    except FatalError:
        raise
    except PenstockError as error:
        raise at_start(error) from None
