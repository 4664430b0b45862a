"""Which file it is, and where in it: partitions and positions of `source.file` (pure).

    partition   <device>-<inode>, in hex; with ~1, ~2, … once another content has taken that place
    position    <offset of the next line>.<lines before it>.<fingerprint>.<time>

A file keeps its partition when it is renamed. The fingerprint is a hash of its first bytes (at most
1,024, and none behind the offset): it tells a file from another that has got the same inode, and one that
was cut off and written anew from one that has grown. The time is when the file had last been changed when it was
first seen, in milliseconds: that is the time of all its events, which is the same however often they come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from connectors.batch import Position
from connectors.contracts import Shard

HEAD = 1024
"""Bytes of a file that the fingerprint is taken of."""

_PARTITION = re.compile(r"[0-9a-f]+-[0-9a-f]+(~\d+)?")


class Place(NamedTuple):
    """A place in a file."""

    offset: int
    """Bytes of the content (decompressed) before it."""
    lines: int
    """Lines before it."""
    fingerprint: str | None = None
    seen_ms: int | None = None


def identity(device: int, inode: int) -> str:
    """Return a file's first partition."""
    return f"{device:x}-{inode:x}"


def is_partition(text: str) -> bool:
    """Whether it is a partition of such a source."""
    return _PARTITION.fullmatch(text) is not None


def is_of(shard: Shard, partition: str) -> bool:
    """Whether a partition is a shard's."""
    return shard.takes(crc32(partition.partition("~")[0].encode()))


def fingerprint(head: bytes, offset: int) -> str:
    """Return the fingerprint at an offset; `head` is what the file begins with."""
    return blake2b(head[: min(offset, HEAD)], digest_size=8).hexdigest()


def encode(place: Place) -> Position:
    """Return the position of a place; an event's has no more than offset and line."""
    text = f"{place.offset:020d}.{place.lines:012d}"
    if place.fingerprint is None:
        return text
    return f"{text}.{place.fingerprint}.{place.seen_ms or 0}"


def decode(position: Position) -> Place:
    """Return the place of a position."""
    offset, lines, *more = position.split(".")
    if not more:
        return Place(int(offset), int(lines))
    return Place(int(offset), int(lines), more[0], int(more[1]))


def newest(positions: Mapping[str, Position], file: str) -> tuple[str, Place] | None:
    """Return where a file was left: of several contents that had its inode, the last."""
    found = [name for name in positions if name.partition("~")[0] == file]
    if not found:
        return None
    name = max(found, key=generation)
    return name, decode(positions[name])


def generation(partition: str) -> int:
    """Return how many contents have had this file's inode before."""
    return int(partition.partition("~")[2] or 0)


def next_generation(partition: str) -> str:
    """Return the partition of another content with the same inode."""
    return f"{partition.partition('~')[0]}~{generation(partition) + 1}"


def elsewhere(positions: Mapping[str, Position], file: str) -> list[tuple[str, Place]]:
    """Return where files with the same inode on other devices were left.

    A device's number may change when a machine starts; the fingerprint says whether it is the same file.
    """
    inode = file.partition("-")[2]
    return [
        (name, decode(position))
        for name, position in positions.items()
        if name.partition("~")[0].partition("-")[2] == inode and name.partition("~")[0] != file
    ]
