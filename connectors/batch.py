"""`Batch`: the events of one intake turn, as parallel lists; `Event`: one of them.

A batch is what flows through Penstock. It holds *columns*, each a list with one entry per
event, and makes a column only when something reads it: a flow that passes values through
never decodes them, and one that never looks at an id never builds one. A source gives the
columns it has at hand and, in `makers`, functions that build the others.

    column        entry
    raw           bytes: the event's data as JSON text; None where it has no data
    data          the decoded JSON value of `raw` (None where there is no data)
    key           str | None: the partition key; events of one key stay in order
    partition     str: the source partition
    position      str: the place after this event; sorts as text within its partition
    id, source, type, subject, time, datacontenttype, dataschema
                  str | None: the CloudEvents attributes; `time` is RFC 3339 in UTC
    timestamp     float | None: the event's time in seconds since the epoch
    extensions    dict[str, str | int | bool]: CloudEvents extension attributes, often {}
    change        Change | None: operation, before and after, for change-data-capture sources
    wire          bytes | None: what arrived, where that is not `raw` (dead letters keep it)
    arrival       Arrival | None: the message itself, where the source is a broker (asked for where an
                  event fails whose pipeline copies its dead letters to a sink, and nowhere else)

A maker that can't build one event's entry puts a PermanentError in `batch.errors[index]` and
None in the column: the runtime fails that one event and lets its neighbours pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

from connectors.errors import PermanentError

Position = str
"""A place in a source partition: opaque to the runtime, JSON-safe, and such that the positions
of one partition sort as text in the order of its events (numbers are zero-padded). In a checkpoint an
`@` may follow, and behind it what the partition is (see `is_of_another`)."""


def is_of_another(position: Position, other: Position) -> bool:
    """Whether two checkpoints of a partition are certainly of different ones that had its name.

    A source partition may be deleted and made anew, a Kafka topic for one, and its positions mean other
    events then: they can't be compared. What tells it apart stands behind the `@`, where it is known.
    """
    ours, theirs = position.partition("@")[2], other.partition("@")[2]
    return bool(ours and theirs and ours != theirs)


Column = list[Any]
Maker = Callable[["Batch"], Column]

Operation = Literal[
    "READ", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MESSAGE", "ALTER", "BEGIN", "END"
]


@dataclass(frozen=True, slots=True)
class Change:
    """A row's change: what `.operation`, `.before` and `.after` show. READ is a snapshot row."""

    operation: Operation
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Arrival:
    """A broker's message as it arrived, byte for byte: for a copy of it somewhere else."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(slots=True)
class Event:
    """One CloudEvent, with what travels beside it and is never serialised."""

    id: str
    source: str
    type: str
    data: Any
    time: str | None = None
    subject: str | None = None
    datacontenttype: str | None = "application/json"
    dataschema: str | None = None
    extensions: dict[str, str | int | bool] = field(default_factory=dict)
    key: str | None = None
    partition: str = ""
    position: Position = ""
    change: Change | None = None

    def attributes(self) -> dict[str, Any]:
        """Return the CloudEvents context attributes that are set, extensions included."""
        found: dict[str, Any] = {"specversion": "1.0", "id": self.id, "source": self.source}
        found["type"] = self.type
        for name in ("subject", "time", "datacontenttype", "dataschema"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        found.update(self.extensions)
        return found


_EXTENSION = "extensions."


class Pickable(Protocol):
    """A source's state of a batch that can be had for a few of its events."""

    def picked(self, indexes: Sequence[int]) -> object:
        """Return the state that the makers find in a batch of these events alone."""


class Batch:
    """Events of one shard, in the order of the source; see the module's table of columns.

    `after` maps each source partition that this batch moves to the position after its last
    event: the checkpoint, once the batch is settled. A batch of size 0 with an `after` moves
    the checkpoint alone. `weight` is roughly the bytes it holds in memory.
    """

    __slots__ = ("after", "columns", "errors", "makers", "size", "state", "weight")

    def __init__(
        self,
        size: int,
        columns: dict[str, Column],
        *,
        after: Mapping[str, Position],
        makers: Mapping[str, Maker] | None = None,
        state: Any = None,
        weight: int = 0,
    ) -> None:
        self.size = size
        self.columns = columns
        self.after = after
        self.makers = makers or {}
        self.errors: dict[int, PermanentError] = {}
        self.state = state
        """The source's own, for its makers; the runtime never looks."""
        self.weight = weight

    def column(self, name: str) -> Column:
        """Return the column, built now if nothing has read it before.

        Raises KeyError for a name that the module's table does not have.
        """
        try:
            return self.columns[name]
        except KeyError:
            pass
        maker = self.makers.get(name) or _DEFAULT_MAKERS[name]
        made = self.columns[name] = maker(self)
        return made

    def extension_columns(self) -> Mapping[str, Column]:
        """Return the extension attributes as columns: name → value per event, None where absent.

        A source that has them so gives a maker per name (`extensions.sequence`), and no dict is
        made per event. It gives all of them, or none.
        """
        columns = [name for name in self.makers if name.startswith(_EXTENSION)]
        if columns:
            return {name[len(_EXTENSION) :]: self.column(name) for name in columns}
        rows = self.column("extensions")
        names = dict.fromkeys(name for row in rows if row for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    def pick(self, indexes: Sequence[int]) -> Batch:
        """Return a batch of these events alone, in this order: for what concerns a few of many.

        What is not made yet is then made for those alone, by makers that are `derived` or whose
        state has `picked`; by others it is made here, for all. It has no `after`.
        """
        picked = {name: [column[k] for k in indexes] for name, column in self.columns.items()}
        makers = dict(self.makers)
        # By name: asking a protocol whether it is one costs more than picking a few events.
        pick: Callable[[Sequence[int]], object] | None = getattr(self.state, "picked", None)
        state = None if pick is None else pick(indexes)
        if state is None:
            for name, maker in self.makers.items():
                if not hasattr(maker, "reads"):
                    makers[name] = lambda _, name=name: [self.column(name)[k] for k in indexes]  # type: ignore[misc]
        few = Batch(len(indexes), picked, after={}, makers=makers, state=state)
        if self.errors:
            few.errors = {
                place: self.errors[k] for place, k in enumerate(indexes) if k in self.errors
            }
        return few

    def event(self, index: int) -> Event:
        """Return one event as an object: for errors, logs and steps written per event."""
        at = {name: self.column(name)[index] for name in _EVENT_COLUMNS}
        return Event(**at)


_EVENT_COLUMNS = (
    "id",
    "source",
    "type",
    "data",
    "time",
    "subject",
    "datacontenttype",
    "dataschema",
    "extensions",
    "key",
    "partition",
    "position",
    "change",
)


def derived(*reads: str) -> Callable[[Maker], Maker]:
    """Mark a maker that needs the columns `reads` and nothing else, not `state` either.

    History keeps those columns instead, and calls the maker by its name when somebody looks. So it
    is a function at the top of its module, keeps its name, and makes of old columns what it made
    of them then. `reads` may name columns of the source's own.
    """

    def mark(maker: Maker) -> Maker:
        vars(maker)["reads"] = reads
        return maker

    return mark


def _decode(batch: Batch) -> Column:
    """Decode `raw`; an entry that is not JSON becomes an error of its own event."""
    raws = batch.column("raw")
    loads = orjson.loads
    try:
        return [None if raw is None else loads(raw) for raw in raws]
    except orjson.JSONDecodeError:
        pass
    out: Column = []
    for index, raw in enumerate(raws):
        try:
            out.append(None if raw is None else loads(raw))
        except orjson.JSONDecodeError as error:
            out.append(None)
            batch.errors[index] = PermanentError(
                f"the event's data is not JSON: {error.msg} at character {error.pos}.",
                code="data_not_json",
                hint="Its bytes are kept with the dead letter.",
            )
    return out


def json_texts(values: Column) -> list[bytes]:
    """Return each value as JSON text, in no more memory than it takes.

    orjson leaves a text in the buffer that it was written to, of 4 kB and more (3.13): the texts of a
    batch would fill the caches. The slice is a copy, and the buffer serves the next value.
    Raises TypeError (orjson.JSONEncodeError) for what it can't write.
    """
    dumps, newline = orjson.dumps, orjson.OPT_APPEND_NEWLINE
    return [dumps(value, None, newline)[:-1] for value in values]


def _encode(batch: Batch) -> Column:
    return json_texts(batch.column("data"))


def _nothing(batch: Batch) -> Column:
    return [None] * batch.size


_DEFAULT_MAKERS: dict[str, Maker] = {
    "data": _decode,
    "raw": _encode,
    "key": _nothing,
    "subject": _nothing,
    "time": _nothing,
    "timestamp": _nothing,
    "datacontenttype": lambda batch: ["application/json"] * batch.size,
    "dataschema": _nothing,
    "extensions": lambda batch: [{}] * batch.size,
    "change": _nothing,
    "wire": _nothing,
    "arrival": _nothing,
}
