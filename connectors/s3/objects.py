"""The objects that are being filled, and what the state store keeps of them. Pure.

An object is *open* from its first event until it is written. Its events are kept meanwhile in *pieces*,
one per batch, under the staging prefix: so what was confirmed is durable, and an object's content can be
made again after a crash. The state lists the open objects and, for each, the piece it begins with.

    _penstock/8f0c…/000000000042-19aa5e0c3f2a1b2      a piece: which objects its parts are of, then the parts
    orders/events.19aa5e0c3f2a1b2-000007.jsonl         an object, in its final place

`19aa5e0c3f2a1b2` is the start of the writer (milliseconds and a random part): two starts never use one name.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from connectors.errors import FatalError

_HEADER = ""
"""Key of the settled state that is no object's."""


@dataclass(slots=True)
class OpenObject:
    """One object that is being filled."""

    key: str
    """What the template renders to."""
    name: str
    """The key that it is written under."""
    first: int
    """Number of the piece that its first events are in."""
    last: int = 0
    """Number of the piece that its last events are in."""
    events: int = 0
    size: int = 0
    opened: float = 0.0
    """When its first event came, seconds since the epoch."""
    parts: list[bytes] = field(default_factory=list)

    def add(self, content: bytes, events: int, piece: int) -> None:
        """Append a part: lines, or a table."""
        self.parts.append(content)
        self.events += events
        self.size += len(content)
        self.last = piece


@dataclass(frozen=True, slots=True)
class Settled:
    """What the state store keeps."""

    life: str
    piece: int
    """The last piece that was settled."""
    starts: tuple[tuple[int, str], ...]
    """Number of a piece → the start that wrote it and those after it."""
    open_objects: Mapping[str, OpenObject]

    def to_mapping(self) -> dict[str, str]:
        """Return it as the runtime stores it."""
        header = {"life": self.life, "piece": self.piece, "starts": self.starts}
        return {_HEADER: orjson.dumps(header).decode()} | {
            key: orjson.dumps(
                [one.name, one.first, one.last, one.events, one.size, one.opened]
            ).decode()
            for key, one in self.open_objects.items()
        }

    def start_of(self, piece: int) -> str:
        """Return the start that wrote a settled piece."""
        return next(start for first, start in reversed(self.starts) if first <= piece)


def read_state(state: Mapping[str, str]) -> Settled | None:
    """Return the settled state; None on the first start. Raises FatalError."""
    if not state:
        return None
    try:
        header = orjson.loads(state[_HEADER])
        found = {}
        for key, text in state.items():
            if key != _HEADER:
                name, first, last, events, size, opened = orjson.loads(text)
                found[key] = OpenObject(key, name, first, last, events, size, opened)
        starts = tuple((int(first), str(start)) for first, start in header["starts"])
        return Settled(header["life"], header["piece"], starts, found)
    except (KeyError, ValueError, TypeError) as error:
        raise FatalError(
            "the S3 sink's settled state can't be read.",
            code="s3_state",
            hint="It was not written by this sink; has the module's type been changed?",
        ) from error


def new_start(settled: Settled | None, now: float) -> str:
    """Return a name for a start, which sorts behind those before it whatever a clock says."""
    at = int(now * 1000)
    if settled is not None and settled.starts:
        at = max(at, int(settled.starts[-1][1][:11], 16) + 1)
    return f"{at:011x}{secrets.token_hex(2)}"


def object_name(key: str, start: str, number: int, ending: str) -> str:
    """Return the key an object is written under: orders.jsonl → orders.<start>-000007.jsonl.gz."""
    folder, base = posixpath.split(key)
    stem, extension = posixpath.splitext(base)
    return posixpath.join(folder, f"{stem}.{start}-{number:06d}{extension}{ending}")


def pack_piece(groups: Sequence[tuple[str, str, int, bytes]]) -> bytes:
    """Return a piece: (key, object, number of events, lines) each."""
    header = [[key, name, events, len(lines)] for key, name, events, lines in groups]
    return b"".join([orjson.dumps(header), b"\n", *(lines for *_, lines in groups)])


def read_piece(content: bytes) -> list[tuple[str, str, int, bytes]]:
    """Return what `pack_piece` was given. Raises FatalError for what is none."""
    head, _, rest = content.partition(b"\n")
    found = []
    try:
        for key, name, events, length in orjson.loads(head):
            found.append((key, name, events, rest[:length]))
            rest = rest[length:]
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise FatalError(
            "a staged piece in the bucket is damaged.",
            code="s3_staging",
            hint="Something else writes under the staging prefix: give the sink one of its own.",
        ) from error
    return found
