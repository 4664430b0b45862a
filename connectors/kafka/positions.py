"""Partitions and positions: their names, whose turn they are, where reading begins. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple
from zlib import crc32

from connectors.batch import Position
from connectors.contracts import Shard
from connectors.errors import FatalError


class Part(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    @property
    def name(self) -> str:
        """The source partition: `<topic>/<number>` (a topic's name has no slash)."""
        return f"{self.topic}/{self.number}"


def part_of_name(name: str) -> Part:
    """Return the partition of that name."""
    topic, _, number = name.rpartition("/")
    return Part(topic, int(number))


class Watermarks(NamedTuple):
    """The offset of the first message that is there, and the one after the last committed."""

    low: int
    high: int


def encode_position(offset: int) -> Position:
    """Return the offset of the next message as a position: 20 digits, so that it sorts as text."""
    return f"{offset:020d}"


def decode_position(position: Position, part: Part) -> int:
    """Return the offset. Raises FatalError for a position that is not Kafka's."""
    if not position.isdecimal():
        raise FatalError(
            f"the stored position {position!r} of {part.name} is not a Kafka offset.",
            code="position_foreign",
            hint="Was this module of another type before? Give it a new name.",
        )
    return int(position)


class TopicChoice:
    """Which topics are read: a list, or a pattern over the names there are."""

    def __init__(self, names: Iterable[str] | None, pattern: str | None) -> None:
        self.names = list(dict.fromkeys(names)) if names is not None else None
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._kafkas_own = pattern is not None and pattern.lstrip("^").startswith("__")
        self._numbers = {name: number for number, name in enumerate(self.names or ())}

    def __str__(self) -> str:
        if self._pattern is not None:
            return f"topics_regex {self._pattern.pattern}"
        return ", ".join(self.names or ())

    def matching(self, there: Iterable[str]) -> list[str]:
        """Return the topics among `there` that the pattern takes, sorted."""
        if self._pattern is None:
            return []
        return sorted(
            name
            for name in there
            if self._pattern.fullmatch(name) and (self._kafkas_own or not name.startswith("__"))
        )

    def turn(self, part: Part) -> int:
        """Return the partition's turn among the shards.

        It depends on nothing but the partition and the flow file: all workers agree on it at
        every moment, also while topics and partitions are being added. A topic's partitions are
        dealt out in order; where its deal begins is its place in the list of topics, or for a
        pattern (whose topics have no fixed places) a hash of its name.
        """
        first = self._numbers.get(part.topic)
        return (crc32(part.topic.encode()) if first is None else first) + part.number

    def share(self, parts: Iterable[Part], shard: Shard) -> list[Part]:
        """Return the shard's partitions, sorted."""
        return sorted(part for part in parts if shard.takes(self.turn(part)))


def begins_new(
    part: Part, own: Iterable[Part], stored: Mapping[str, Position], choice: TopicChoice
) -> bool:
    """Whether `part`, which nothing is stored for, was added after the flow was first run.

    It was if this shard has stored positions for its sisters: every partition's position is
    stored when its reading begins, before its first event. (Other shards' positions say nothing:
    on a first start with several workers one of them is the first to store.) With a pattern,
    topics come and go, so all of the shard's partitions are sisters; a topic that was added to
    the list in the flow file begins where `start` says.
    """
    sisters = (other for other in own if choice.names is None or other.topic == part.topic)
    return any(sister.name in stored for sister in sisters)


class Resumption(NamedTuple):
    """Where reading goes on, and whether that is elsewhere than the stored position."""

    offset: int
    moved: bool


def resume(
    part: Part,
    offset: int,
    available: Watermarks,
    on_gone: Literal["fail", "earliest", "latest"],
) -> Resumption:
    """Return where to go on from a stored offset. Raises FatalError `offset_gone`."""
    if available.low <= offset <= available.high:
        return Resumption(offset, moved=False)
    if on_gone == "fail":
        raise offset_gone(part, offset, available)
    return Resumption(available.low if on_gone == "earliest" else available.high, moved=True)


def offset_gone(part: Part, offset: int, available: Watermarks) -> FatalError:
    """Return the error for a position that the partition does not have any more."""
    if offset > available.high:
        why = "The topic ends before it: it was probably deleted and made anew."
    else:
        why = f"{available.low - offset} offsets before it were deleted, by retention or by hand."
    return FatalError(
        f"topic {part.topic}, partition {part.number}: the position {offset} is gone;"
        f" available are {available.low} to {available.high}. {why}",
        code="offset_gone",
        hint="Say where to go on with `on_offset_gone: earliest` (all that is still there) or"
        " `latest` (only what comes from now on).",
        topic=part.topic,
        partition=part.number,
        position=offset,
        low=available.low,
        high=available.high,
    )
