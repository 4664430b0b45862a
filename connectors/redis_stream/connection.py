"""One connection to a Redis or Valkey server, for one thread: commands in, raw answers out.

redis-py connects, logs in and parses (in C where hiredis is installed). Its clients are left out:
they make a dict of each entry, which costs as much as all the rest of reading it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import AskError, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from connectors.errors import FatalError
from connectors.redis_stream.failures import ElsewhereError, is_replica, label_of, said_by
from connectors.redis_stream.settings import RedisServer, host_and_port

TIMEOUT = 5.0
"""Seconds for connecting, and for an answer."""

Argument = bytes | str | int


class Link:
    """A connection that is made by the first command, and anew after an error."""

    def __init__(
        self, settings: RedisServer, *, name: str, find: Callable[[], tuple[str, int]] | None = None
    ) -> None:
        """Connect to nothing yet. Raises FatalError for a URL that is none.

        `find` tells the node of a cluster to connect to, at each connect anew; it may raise RedisError.
        """
        self.label = label_of(settings.url)
        self._find = find
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
            make: Any = Sentinel
            self._sentinel = make(
                [host_and_port(address) for address in found.addresses],
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
            said = self._said(error)
            self._drop_the_wrong_one([said])
            raise said from None
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
                    found.append(self._said(error))
        except BaseException:
            self.drop()
            raise
        self._drop_the_wrong_one(found)
        return found

    def _said(self, error: ResponseError) -> ResponseError:
        """Return what an answer means: a node of a cluster may send us elsewhere."""
        if self._find is not None and isinstance(error, AskError):  # MovedError is one
            return ElsewhereError(said_by(error))
        return error

    def _drop_the_wrong_one(self, answers: Sequence[Any]) -> None:
        """Disconnect from what has become a replica, or has given the slot away.

        Who asks anew, by name, Sentinel or cluster, may find the right one.
        """
        for answer in answers:
            if isinstance(answer, ResponseError) and (
                isinstance(answer, ElsewhereError) or is_replica(answer)
            ):
                self.drop()
                return

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
        elif self._find is not None:
            host, port = options["host"], options["port"] = self._find()
            self.label = f"{host}:{port} of the cluster"
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
