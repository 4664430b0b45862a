"""Decode the messages of PostgreSQL's logical replication protocol, version 1. Pure: no I/O.

Formats: PostgreSQL manual, "Logical Replication Message Formats" and "Streaming Replication
Protocol". A message arrives inside XLogData, whose header is `HEADER` bytes long; the functions
here take the whole message and read from there, since cutting the header off would copy it.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

HEADER = 25
"""Length of an XLogData header: 'w', start LSN, end LSN, send time."""

XLOG_DATA = 0x77  # w
KEEPALIVE = 0x6B  # k

BEGIN = 0x42
COMMIT = 0x43
RELATION = 0x52
TYPE = 0x59
ORIGIN = 0x4F
INSERT = 0x49
UPDATE = 0x55
DELETE = 0x44
TRUNCATE = 0x54
MESSAGE = 0x4D

POSTGRES_EPOCH = 946_684_800
"""2000-01-01 in Unix seconds: the server counts microseconds from there."""


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Stands for a value the server did not send: an unchanged TOAST value, or a column outside the
replica identity in an old key. It is not NULL."""

Value = bytes | None | _Absent
"""A column's value: text as the type's output function writes it, NULL, or ABSENT."""

_BEGIN = Struct(">QqI")
_MESSAGE = Struct(">BQ")
_COMMIT = Struct(">BQQq")
_KEEPALIVE = Struct(">QQB")
_COLUMN = Struct(">Ii")
_STATUS = Struct(">cQQQqB")


class ProtocolError(ValueError):
    """The bytes are not what the protocol says: a server or a proxy that speaks another one."""


class Begin(NamedTuple):
    """A transaction starts. `time` is its commit time in Unix seconds."""

    commit_lsn: int
    time: float
    xid: int


class Commit(NamedTuple):
    """A transaction is complete; `end_lsn` is where the next record starts."""

    commit_lsn: int
    end_lsn: int
    time: float


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A published column. `identity`: part of the replica identity (all are, under FULL)."""

    name: str
    type_oid: int
    type_modifier: int
    identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's shape from here on. `identity` is d(efault), n(othing), f(ull) or i(ndex)."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class RowChange:
    """An insert, update or delete. `old_is_key`: `old` has only the replica identity's columns."""

    old: list[Value] | None
    new: list[Value] | None
    old_is_key: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables emptied by one statement."""

    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What pg_logical_emit_message wrote; `lsn`: where."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server has sent everything up to `wal_end`; `reply` asks for an answer at once."""

    wal_end: int
    time: float
    reply: bool


def unix_time(microseconds: int) -> float:
    """Return Unix seconds for the server's microseconds since 2000."""
    return POSTGRES_EPOCH + microseconds / 1_000_000


def decode_keepalive(message: bytes) -> Keepalive:
    """Decode a primary keepalive message ('k')."""
    wal_end, time, reply = _KEEPALIVE.unpack_from(message, 1)
    return Keepalive(wal_end, unix_time(time), bool(reply))


def encode_status(flushed: int, received: int, now: float, *, reply: bool = False) -> bytes:
    """Encode a standby status update: what is durable here, what has arrived, and the time."""
    micros = int((now - POSTGRES_EPOCH) * 1_000_000)
    return _STATUS.pack(b"r", max(received, flushed), flushed, flushed, micros, reply)


def decode_begin(message: bytes, at: int = HEADER) -> Begin:
    """Decode a Begin message."""
    lsn, time, xid = _BEGIN.unpack_from(message, at + 1)
    return Begin(lsn, unix_time(time), xid)


def decode_commit(message: bytes, at: int = HEADER) -> Commit:
    """Decode a Commit message."""
    _flags, lsn, end, time = _COMMIT.unpack_from(message, at + 1)
    return Commit(lsn, end, unix_time(time))


def _text(message: bytes, at: int) -> tuple[str, int]:
    end = message.find(b"\0", at)
    if end < 0:
        raise ProtocolError("a name without its end in a replication message")
    return message[at:end].decode(), end + 1


def decode_relation(message: bytes, at: int = HEADER) -> Relation:
    """Decode a Relation message: the shape of the rows that follow."""
    oid = int.from_bytes(message[at + 1 : at + 5], "big")
    schema, at = _text(message, at + 5)
    table, at = _text(message, at)
    identity = chr(message[at])
    count = int.from_bytes(message[at + 1 : at + 3], "big")
    at += 3
    columns = []
    for _ in range(count):
        flags = message[at]
        name, at = _text(message, at + 1)
        type_oid, modifier = _COLUMN.unpack_from(message, at)
        at += 8
        columns.append(RelationColumn(name, type_oid, modifier, bool(flags & 1)))
    # The server writes pg_catalog as an empty name.
    return Relation(oid, schema or "pg_catalog", table, identity, tuple(columns))


def decode_truncate(message: bytes, at: int = HEADER) -> Truncate:
    """Decode a Truncate message."""
    count = int.from_bytes(message[at + 1 : at + 5], "big")
    flags = message[at + 5]
    start = at + 6
    oids = [int.from_bytes(message[start + 4 * k : start + 4 * k + 4], "big") for k in range(count)]
    return Truncate(tuple(oids), bool(flags & 1), bool(flags & 2))


def decode_message(message: bytes, at: int = HEADER) -> LogicalMessage:
    """Decode a Message."""
    flags, lsn = _MESSAGE.unpack_from(message, at + 1)
    prefix, at = _text(message, at + 10)
    length = int.from_bytes(message[at : at + 4], "big")
    content = message[at + 4 : at + 4 + length]
    if len(content) != length or len(message) != at + 4 + length:
        raise ProtocolError("a logical message whose length is wrong")
    return LogicalMessage(bool(flags & 1), lsn, prefix, content)


def sent_at(message: bytes) -> float:
    """Return when the server sent a message, in Unix seconds."""
    return unix_time(int.from_bytes(message[17:25], "big"))


def relation_oid(message: bytes, at: int = HEADER) -> int:
    """Return which relation an insert, update or delete is about."""
    return int.from_bytes(message[at + 1 : at + 5], "big")


def decode_tuple(message: bytes, at: int) -> tuple[list[Value], int]:
    """Decode the TupleData at `at`; return its values and where it ends."""
    count = int.from_bytes(message[at : at + 2], "big")
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = message[at]
        if kind == 0x74:  # t
            start = at + 5
            at = start + int.from_bytes(message[at + 1 : start], "big")
            if at > len(message):
                raise ProtocolError("a row that is cut short in a replication message")
            values.append(message[start:at])
        elif kind == 0x6E:  # n
            values.append(None)
            at += 1
        elif kind == 0x75:  # u
            values.append(ABSENT)
            at += 1
        else:
            raise ProtocolError(f"a column of kind {chr(kind)!r}; t, n or u was expected")
    return values, at


def decode_row_change(message: bytes, at: int = HEADER) -> RowChange:
    """Decode an insert, update or delete as the server sent it."""
    at += 5
    old: list[Value] | None = None
    new: list[Value] | None = None
    old_is_key = False
    mark = message[at]
    if mark in (0x4B, 0x4F):  # K, O
        old_is_key = mark == 0x4B
        old, at = decode_tuple(message, at + 1)
        mark = message[at] if at < len(message) else 0
    if mark == 0x4E:  # N
        new, at = decode_tuple(message, at + 1)
    if at != len(message) or (old is None and new is None):
        raise ProtocolError("a row change whose length is wrong")
    return RowChange(old, new, old_is_key)
