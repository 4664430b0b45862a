"""One connection to a Redis or Valkey server, for one thread: commands in, raw answers out.

redis-py connects, logs in and parses (in C where hiredis is installed). Its clients are left out:
they make a dict of each entry, which costs as much as all the rest of reading it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from connectors.errors import FatalError
from connectors.redis_stream.failures import is_replica, label_of
from connectors.redis_stream.settings import RedisStreamSink, RedisStreamSource

TIMEOUT = 5.0
"""Seconds for connecting, and for an answer."""

Argument = bytes | str | int


class Link:
    """A connection that is made by the first command, and anew after an error."""

    def __init__(self, settings: RedisStreamSource | RedisStreamSink, *, name: str) -> None:
        """Connect to nothing yet. Raises FatalError for a URL that is none."""
        self.label = label_of(settings.url)
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": "".join(c if "!" <= c <= "~" else "-" for c in f"penstock-{name}"),
        }
        try:
            self._pool = ConnectionPool.from_url(settings.url, **options)
        except ValueError:
            raise FatalError(
                "the URL of the Redis server can't be read.",
                code="redis_url",
                hint="Write redis://user:password@host:6379/0, or rediss:// for TLS.",
            ) from None
        self._sentinel: Any = None  # redis-py's Sentinel, which has no types
        self._service = ""
        found = settings.sentinel
        if found is not None:
            self._service = found.service
            self.label = f"{found.service} (by Sentinel)"
            login = {"username": found.username, "password": found.password}
            addresses = [address.rpartition(":") for address in found.addresses]
            make: Any = Sentinel
            self._sentinel = make(
                [(host.strip("[]"), int(port)) for host, _, port in addresses],
                sentinel_kwargs={
                    **{name: value for name, value in login.items() if value is not None},
                    "socket_timeout": TIMEOUT / 2,
                    "socket_connect_timeout": TIMEOUT / 2,
                },
            )
        self._connection: Any = None  # redis-py's Connection, whose methods have no types
        self._interrupted = False

    def call(self, *command: Argument) -> Any:
        """Send a command and return its answer. Raises redis.exceptions.RedisError."""
        connection = self._connected()
        try:
            connection.send_command(*command)
            return connection.read_response()
        except ResponseError as error:
            self._drop_a_replica([error])
            raise
        except BaseException:
            self.drop()
            raise

    def send(self, packed: bytes, answers: int) -> list[Any]:
        """Send packed commands at once; return their answers, with errors among them as values.

        Raises RedisError where the connection breaks: then nobody knows what was done.
        """
        connection = self._connected()
        found: list[Any] = []
        try:
            connection.send_packed_command([packed], check_health=False)
            for _ in range(answers):
                try:
                    found.append(connection.read_response())
                except ResponseError as error:
                    found.append(error)
        except BaseException:
            self.drop()
            raise
        self._drop_a_replica(found)
        return found

    def _drop_a_replica(self, answers: Sequence[Any]) -> None:
        """Disconnect from what has become a replica: who asks anew, by name or Sentinel, may find the master."""
        if any(isinstance(answer, ResponseError) and is_replica(answer) for answer in answers):
            self.drop()

    def calls(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands at once; as `send`."""
        connection = self._connected()
        return self.send(b"".join(connection.pack_commands(commands)), len(commands))

    def _connected(self) -> Any:
        connection = self._connection
        if connection is None:
            self._connection = connection = self._pool.connection_class(**self._options())
            try:
                connection.connect()
            except BaseException:
                self.drop()
                raise
            if self._interrupted:
                self.interrupt()
        return connection

    def _options(self) -> dict[str, Any]:
        options = dict(self._pool.connection_kwargs)
        if self._sentinel is not None:
            options["host"], options["port"] = self._sentinel.discover_master(self._service)
        return options

    def drop(self) -> None:
        """Disconnect; the next command connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()

    def interrupt(self) -> None:
        """End what another thread waits for on this connection, now and from now on."""
        self._interrupted = True
        connection = self._connection
        found: socket.socket | None = getattr(connection, "_sock", None)
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect for good; for the thread that uses it, or after that has ended."""
        self.drop()
        if self._sentinel is not None:
            for client in self._sentinel.sentinels:
                with contextlib.suppress(RedisError, OSError):
                    client.close()
