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


class Place(NamedTuple):
    """A place in a partition: the offset of the next message, in the topic of this id.

    A topic that is deleted and made anew keeps its name and begins again at offset 0: it is its id
    that tells the two apart.
    """

    offset: int
    topic_id: str = ""
    """"" where it is not known: an event's position, one stored by an older version, or a broker that
    gives its topics none."""

    def is_elsewhere(self, topic_id: str) -> bool:
        """Whether the place is certainly not in the topic of this id."""
        return bool(self.topic_id and topic_id and self.topic_id != topic_id)


def encode_position(offset: int, topic_id: str = "") -> Position:
    """Return a place as a position: the offset has 20 digits, so that it sorts as text."""
    return f"{offset:020d}@{topic_id}" if topic_id else f"{offset:020d}"


def decode_position(position: Position, part: Part) -> Place:
    """Return the place. Raises FatalError for a position that is not Kafka's."""
    offset, _, topic_id = position.partition("@")
    if not offset.isdecimal():
        raise FatalError(
            f"the stored position {position!r} of {part.name} is not a Kafka offset.",
            code="position_foreign",
            hint="Was this module of another type before? Give it a new name.",
        )
    return Place(int(offset), topic_id)


def offset_of(position: Position) -> int:
    """Return the offset of a position that is known to be Kafka's."""
    return int(position.partition("@")[0])


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
    place: Place,
    available: Watermarks,
    on_gone: Literal["fail", "earliest", "latest"],
    topic_id: str = "",
) -> Resumption:
    """Return where to go on from a stored place. Raises FatalError `offset_gone`.

    `topic_id` is that of the topic which is there now. It must have been asked for before `available`:
    else these could be the older topic's.
    """
    offset = place.offset
    if available.low <= offset <= available.high and not place.is_elsewhere(topic_id):
        return Resumption(offset, moved=False)
    if on_gone == "fail":
        raise offset_gone(part, place, available, topic_id)
    return Resumption(available.low if on_gone == "earliest" else available.high, moved=True)


def offset_gone(part: Part, place: Place, available: Watermarks, topic_id: str = "") -> FatalError:
    """Return the error for a position that the partition does not have any more."""
    offset = place.offset
    if place.is_elsewhere(topic_id):
        why = f"The topic was deleted and made anew: its id was {place.topic_id} and is {topic_id}."
    elif offset > available.high:
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
