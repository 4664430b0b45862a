"""The replication stream on the wire: START_REPLICATION, reading, and status updates.

psycopg has no replication API; since 3.3 it lets START_REPLICATION return, and what follows goes
through its libpq layer. Measured on 250 B messages: reading whenever a few have come costs 3.3 us
each, since the walsender sends them one by one; letting them gather first 0.9 us. So where the
consumer is behind anyway, the stream takes a nap before it reads on.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import pq, sql

from connectors.postgres_cdc.connection import Connection
from connectors.postgres_cdc.pgoutput import KEEPALIVE, RELATION, decode_keepalive, encode_status
from connectors.postgres_cdc.position import format_lsn
from connectors.postgres_cdc.readahead import Messages, ReadAhead

CHUNK = 512 << 10
"""Bytes a chunk holds at most, but for a single message that is larger."""

BEHIND = 64 << 10
"""Bytes that wait for the consumer from which on reading naps: some hundred rows."""

NAP = 0.001
"""Seconds. Shorter saves little, longer holds a fast stream up."""

READS = 6
"""Reads from the socket before messages are taken, until one such round has brought a chunk: libpq's
buffer, 16 KiB at first, grows to hold what they bring, and then one read brings as much. It doubles
whenever it is full, and never shrinks: reading on like that made it 32 MB, and gained nothing."""


class ConnectionLost(Exception):  # noqa: N818 - it is mended by reconnecting
    """The server closed the stream, or has been silent for too long."""


@dataclass(slots=True)
class Acknowledged:
    """What the dataflow's thread tells the stream's: an int is assigned as a whole."""

    lsn: int = 0
    reported: int = 0
    """What the server was told last."""


class Stream:
    """One replication connection in COPY_BOTH mode. All methods on one thread, but for `wake`."""

    def __init__(
        self,
        connection: Connection,
        *,
        slot: str,
        publication: str,
        start: int,
        acknowledged: Acknowledged,
        status_interval: float,
        silence: float,
        eager: bool = False,
        messages: bool = False,
    ) -> None:
        """`eager`: ask for an answer with every status, to learn soon where the WAL ends.

        `messages`: have logical messages sent, everybody's.
        """
        options = sql.SQL("proto_version '1', publication_names {}{}").format(
            # The option holds a list of identifiers.
            sql.Literal(sql.Identifier(publication).as_string(None)),
            sql.SQL(", messages 'true'" if messages else ""),
        )
        connection.execute(
            sql.SQL("START_REPLICATION SLOT {} LOGICAL {} ({})").format(
                sql.Identifier(slot), sql.SQL(format_lsn(start)), options
            )
        )
        self._connection = connection
        self._pgconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self._acknowledged = acknowledged
        self._received = start
        self._eager = eager
        self._status_interval = status_interval
        self._silence = silence
        now = time.monotonic()
        self._more = False
        """Whether libpq has messages left that a full chunk had no room for."""
        self._brought = 0
        """Bytes taken since the last read."""
        self._grown = False
        """Whether libpq's buffer is large enough."""
        self._status_sent = now
        self._heard = now
        self.wal_end = 0
        """The last keepalive's: the server has sent everything up to there."""

    def run(
        self,
        queue: ReadAhead,
        waker: socket.socket,
        stopped: Callable[[], bool],
        described: Callable[[bytes], None],
    ) -> None:
        """Read into `queue` until `stopped`. `described` is called with each Relation message.

        Raises ConnectionLost, psycopg.Error.
        """
        poller = select.poll()
        poller.register(self._pgconn.socket, select.POLLIN)
        poller.register(waker, select.POLLIN)
        self.send_status()
        while not stopped():
            messages, size = self._drain(queue, described)
            self._duties()
            if messages:
                self._heard = time.monotonic()
                queue.put(Messages(messages, size))
                while not queue.wait_for_room(self._status_interval / 2) and not stopped():
                    # Nobody takes: the server must hear from us all the same.
                    self._duties(stalled=True)
                if queue.size > BEHIND:
                    time.sleep(NAP)
                continue
            wait = max(0.0, self._next_duty() - time.monotonic())
            for number, _ in poller.poll(int(wait * 1000) + 1):
                if number == waker.fileno():
                    waker.recv(4096)

    def _drain(
        self, queue: ReadAhead, described: Callable[[bytes], None]
    ) -> tuple[list[bytes], int]:
        """Read what the socket has and return the messages that are complete."""
        get = self._pgconn.get_copy_data
        messages: list[bytes] = []
        add = messages.append
        size = 0
        again = False
        if not self._more:
            self._grown = self._grown or self._brought >= CHUNK
            self._brought = 0
            self._pgconn.consume_input()
            if queue.size > BEHIND and not self._grown:
                for _ in range(READS - 1):
                    self._pgconn.consume_input()
        self._more = True
        while size < CHUNK:
            length, view = get(1)
            if length <= 0:
                if length < 0:
                    self._ended()
                if not messages and not again and self._pgconn.ssl_in_use:
                    # With TLS, libpq may hold bytes that the socket no longer shows.
                    self._pgconn.consume_input()
                    again = True
                    continue
                self._more = False
                break
            message = bytes(view)
            size += length
            add(message)
            if message[0] == KEEPALIVE:
                self._keepalive(message)
            elif message[25] == RELATION:
                described(message)
        self._brought += size
        return messages, size

    def _ended(self) -> None:
        """Raise for a stream that the server ended: with its error, where it gave one."""
        result = self._pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        raise ConnectionLost("the server ended the stream")

    def _keepalive(self, message: bytes) -> None:
        keepalive = decode_keepalive(message)
        self.wal_end = max(self.wal_end, keepalive.wal_end)
        self._received = max(self._received, keepalive.wal_end)
        if keepalive.reply:
            self.send_status()

    def _next_duty(self) -> float:
        """Return when the next status is due, in monotonic seconds."""
        interval = self._status_interval
        if self._acknowledged.lsn > self._acknowledged.reported:
            interval = min(interval, 1.0)
        return self._status_sent + interval

    def _duties(self, *, stalled: bool = False) -> None:
        now = time.monotonic()
        if now < self._next_duty():
            return
        if not stalled and now - self._heard > self._silence:
            raise ConnectionLost(f"nothing came from the server in {self._silence:g} s")
        # An answer is asked for: it tells that the server is there, and how far it is.
        self.send_status(reply=self._eager or now - self._heard >= self._status_interval / 2)

    def send_status(self, *, reply: bool = False) -> None:
        """Tell the server what is settled. Raises ConnectionLost, psycopg.Error."""
        flushed = self._acknowledged.lsn
        status = encode_status(flushed, self._received, time.time(), reply=reply)
        self._pgconn.put_copy_data(status)
        deadline = time.monotonic() + self._silence
        while self._pgconn.flush():
            # A server that does not read while it writes: let it be read.
            self._pgconn.consume_input()
            if time.monotonic() > deadline:
                raise ConnectionLost("the server doesn't read what is sent to it")
            select.select([], [self._pgconn.socket], [], 0.1)
        self._acknowledged.reported = flushed
        self._status_sent = time.monotonic()

    def close(self) -> None:
        """Report the last position and end the stream; never raises."""
        try:
            self.send_status()
            self._pgconn.put_copy_end(None)
            self._pgconn.flush()
        except (psycopg.Error, ConnectionLost, OSError):
            pass
        self._connection.close()
