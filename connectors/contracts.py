"""What a source and a sink must do. Everything a connector's author needs is on this page.

The road: a `Reader` hands batches to the dataflow; the runtime runs the steps, settles the
outcome, makes the checkpoint durable and only then calls `acknowledge`. A connector never
acknowledges upstream by itself, never drops an event and never repeats a position.

A connector is found by entry point (group `penstock.connectors`, name = the flow file's type)
and is a `ConnectorType`: its configuration model and how to make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from connectors.batch import Batch, Column, Position
from connectors.errors import PenstockError
from connectors.settings import Settings

Attribute = str | int | bool | list[Any]
"""A CloudEvents attribute of outgoing events: one value for all, or a list, one per event."""

Delivery = Literal["at_least_once", "effectively_once", "exactly_once"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a preflight: what was looked at, whether it holds, and what to do if not."""

    name: str
    ok: bool
    found: str
    hint: str = ""
    unreachable: bool = False
    """The server did not answer (exit code 3 instead of 1)."""
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a partition is behind: any of it None where the system can't tell.

    `events` and `bytes` are counts; `seconds` is the age of the last event read.
    """

    events: int | None = None
    bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SlotHealth:
    """How a replication slot is on its server, as it was last looked at."""

    active: bool
    """A connection reads it."""
    wal_status: str
    """As the server has it: reserved, extended, unreserved or lost."""
    retained_bytes: int | None = None
    """WAL that the server keeps for it; None once that is lost."""
    safe_bytes: int | None = None
    """WAL that may be written before the slot is in danger; None where nothing limits it."""


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """What a source can do, for `explain` and for choices the runtime makes."""

    ordered: bool
    """Events of one key arrive in order."""
    replayable: bool
    """It can be read again from an earlier position."""
    seek_by_time: bool
    """It can be opened with a window of times."""
    partitioned: bool
    """Its partitions can be shared out between workers."""
    bounded: bool = False
    """It ends by itself."""
    json: bool = False
    """Its events' `raw` is JSON by construction: nobody needs to decode it to know."""
    pushed: bool = False
    """Its events are sent to the server, which keeps them until they are settled (`Opening.open_inbox`)."""
    decodes_late: bool = False
    """Most of what its events cost is paid in the makers of its batches: that can be done while a sink waits."""


@dataclass(frozen=True, slots=True)
class SinkTraits:
    """What a sink promises for an event whose delivery it has confirmed."""

    ordered: bool
    """Events delivered in order arrive in order, per key."""
    delivery: Delivery
    """After a crash: at_least_once repeats what was in flight; effectively_once undoes it
    (a file cut back to its settled length); exactly_once never shows it."""
    topics: bool = False
    """One sink carries many topics (`publish.topic`)."""
    embeds: bool = False
    """It puts an event's data inside a JSON envelope, so that data must be JSON."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which share of a source's partitions a reader takes: those whose turn is `index` of `of`."""

    index: int = 0
    of: int = 1

    def takes(self, turn: int) -> bool:
        """Whether the partition numbered `turn` (0, 1, …, in a stable order) is this shard's."""
        return turn % self.of == self.index


@dataclass(frozen=True, slots=True)
class TransactionScope:
    """What a source and a sink share that put positions and events into the same transactions."""

    writer: str
    """Names who writes: of two with one name, the one that opened later shuts out the other."""
    group: str
    """Where positions are committed to."""
    owner: str
    """The flow and source they belong to: positions of any other are left alone."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of times, in milliseconds since the epoch: `since` lies in it, `until` does not."""

    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a window, of which events are missing or may be; the times are as in a Window."""

    since: int
    until: int
    reason: str
    """One line for people: what is missing there, and why."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a window holds, as far as that can be told without reading it; None: it can't.

    `first` and `last` are the times of the first and the last event, in milliseconds since the epoch.
    """

    events: int | None
    bytes: int | None
    first: int | None
    last: int | None
    gaps: tuple[Gap, ...] = ()
    exact: bool = False
    """The numbers are what reading will find; otherwise they are estimates from above."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An event in an inbox: what a server has taken in, and kept before it answered."""

    number: int
    """Grows in the order in which events were kept; no two of a source have the same."""
    lane: int
    """0 to LANES - 1: events of one key are in one lane."""
    head: bytes
    """What it is beside its data, as JSON; the source's own."""
    raw: bytes | None
    """The data as JSON text."""


LANES = 16
"""Into how many partitions an inbox is divided: workers share them out."""


class Inbox(Protocol):
    """What came in for one source and has not been settled. One thread at a time calls it."""

    def take(self, after: int, limit: int) -> list[Taken]:
        """Return the first events behind number `after`, in order. Raises RetryableError."""

    def forget(self, settled: Mapping[int, int]) -> None:
        """Delete what is settled: lane → number of its last settled event. Raises RetryableError."""

    def last(self) -> int:
        """Return the number that was given last; 0 before the first. Raises RetryableError."""

    def close(self) -> None:
        """Close its connection."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the runtime tells a source when it opens a reader."""

    shard: Shard
    positions: Mapping[str, Position]
    """The checkpoint: source partition → position after the last settled event. All partitions
    of the source, those of other shards too. Empty on the first start."""
    until_caught_up: bool = False
    """End (raise EndOfSource from `poll`) once what was the end at opening has been handed over."""
    transaction: TransactionScope | None = None
    """Positions are committed in transactions: where those of this owner are ahead of the checkpoint,
    reading begins there; `acknowledge` is not called."""
    compile_template: Callable[[str], Callable[[Mapping[str, Any]], str]] | None = None
    """Compile a `{{ … }}` template; the result renders it over a mapping."""
    window: Window | None = None
    """Read only the events whose time (their `timestamp`) lies in it, and end (raise EndOfSource from
    `poll`) at its end; `positions` resume within it. `acknowledge` is not called, and nothing that live
    reading goes by is touched. Given to sources with `traits.seek_by_time` alone."""
    compile_value: Callable[[Any], Callable[[Mapping[str, Any]], Any]] | None = None
    """Compile any YAML value with templates in its texts; the result renders it over a mapping."""
    compile_key: Callable[[str], Callable[[Any], str | None]] | None = None
    """Compile a jq program; the result is the partition key that it makes of an event's data. Raises
    PermanentError."""
    open_inbox: Callable[[], Inbox] | None = None
    """Open what came in for this source; for sources whose events are pushed."""


class EndOfSource(Exception):  # noqa: N818 - an end is not an error
    """Raised by `poll` when a bounded source has handed over its last event."""


@runtime_checkable
class Reader(Protocol):
    """One open source in one worker. Its I/O runs on threads of its own, into bounded queues.

    `poll`, `acknowledge` and `close` are called from one thread (the dataflow's); `lag`, `owns`
    and `status` from any. Keepalives, heartbeats and reconnecting with backoff are the reader's own
    business and never wait for `poll` to be called.
    """

    def poll(self, limit: int, timeout: float) -> Batch | None:
        """Hand over what has arrived, at most `limit` events, in order; None when nothing has.

        Waits up to `timeout` seconds (0: not at all) for a first event and for nothing more: a
        batch holds the backlog there is, from one event to `limit`. Raises EndOfSource at the
        end of a bounded source, FatalError when no event can come until a person acts. What can
        be retried is retried within, with backoff, and shown by `status`.
        """

    def acknowledge(self, positions: Mapping[str, Position]) -> None:
        """Tell the server that everything up to `positions` is settled, and durably so.

        Called in order, after the checkpoint is durable. Must not block for long, and must not
        raise for a connection that is away: the position is sent once it is back.
        """

    def owns(self, partition: str) -> bool:
        """Whether the partition is of this reader's shard: what waits of it is resumed here."""

    def lag(self) -> Mapping[str, Lag]:
        """Return how far each partition is behind; from memory, without asking the server."""

    def status(self) -> str:
        """Return "" when all is well, else one line: reconnecting, waiting for a slot, …."""

    def close(self) -> None:
        """Stop the threads and connections, within 5 seconds. What is unacknowledged stays so."""


@runtime_checkable
class SlotReading(Protocol):
    """What a reader has that reads replication slots, which keep their server's WAL."""

    def slots(self) -> Mapping[str, SlotHealth]:
        """Return source partition → how its slot is; from memory, on any thread.

        Slots that have not been looked at yet are absent.
        """


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Rows that somebody wants read again while the source goes on."""

    id: int
    """Grows from request to request."""
    tables: tuple[str, ...]
    """As the source names them; empty: all."""
    paused: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """How far a requested snapshot is."""

    id: int
    table: str = ""
    """The table that is being read."""
    rows: int | None = None
    """Rows handed over; None: not known any more."""
    done: bool = False
    """It is through, and the checkpoint that says so is durable."""
    error: PenstockError | None = None
    """Why it can't be done."""


@runtime_checkable
class Snapshotting(Protocol):
    """What a reader has that can read the rows there are again while it goes on. On any thread."""

    def want_snapshots(self, requests: Sequence[SnapshotRequest]) -> None:
        """Tell all that is wanted now, oldest first: they are read one after the other.

        Called again and again. One that was begun and is not named any more is given up.
        """

    def snapshot_reports(self) -> Sequence[SnapshotReport]:
        """Return how far those are that were wanted when it was last told."""


@runtime_checkable
class Source(Protocol):
    """A source module of a flow: configuration, not yet a connection."""

    traits: SourceTraits

    def preflight(self) -> Iterable[Check]:
        """Connect and check all that reading needs, without changing anything on the server."""

    def open(self, opening: Opening) -> Reader:
        """Connect and start reading after `opening.positions`.

        Raises FatalError (with `unreachable` where the server does not answer).
        """


@runtime_checkable
class Surveying(Protocol):
    """What a source with `traits.seek_by_time` has that can tell what a window holds."""

    def survey(self, window: Window) -> Survey:
        """Connect and tell, without reading the events. Raises FatalError, RetryableError."""


@dataclass(slots=True)
class Outgoing:
    """Events for a sink, as parallel lists with one entry per event.

    `values` is the JSON text of each event's data (None: no data, a tombstone where the sink has
    such); `keys` the partition keys. `attributes()` gives the CloudEvents attributes, built only
    if the format has an envelope: name → one value for all, or a list with an entry per event
    (None: absent there). connectors.cloudevents turns them into envelopes and headers by the
    batch. `topic` is what the step named, or None for the sink's default.
    """

    values: Sequence[bytes | None]
    keys: Sequence[str | None]
    attributes: Callable[[], Mapping[str, Attribute]]
    topic: str | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class SinkOpening:
    """What the runtime tells a sink when it opens it."""

    state: Mapping[str, str]
    """What `settled_state` returned with the last settled batch; empty on the first start."""
    writer: str = ""
    """Set when several processes write through this sink module at once: each has another one."""
    transaction: TransactionScope | None = None
    """Deliver within transactions, each ended by `commit`; only to a TransactionalSink."""
    compile_template: Callable[[str], Callable[[Mapping[str, Any]], str]] | None = None
    """Compile a `{{ … }}` template; the result renders it over the outgoing event's attributes
    and `data`, and raises PermanentError for an event it can't be rendered for."""
    compile_jq: Callable[[str], Callable[[Mapping[str, Any]], Any]] | None = None
    """Compile a jq program; the result gives its first output over the same, None when there is
    none, and raises PermanentError."""
    flow: str = ""
    """The flow's name."""
    meanwhile: Callable[[], None] | None = None
    """What may be done in `deliver` between handing events over and waiting for their confirmation. Takes as
    long as a batch takes to be decoded, the first time in each batch, and raises nothing."""


@runtime_checkable
class Sink(Protocol):
    """A sink module of a flow. All methods but `preflight` run on the dataflow's thread."""

    traits: SinkTraits

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Connect and check all that publishing to `topics` needs, changing nothing."""

    def open(self, opening: SinkOpening) -> None:
        """Connect. Raises FatalError (with `unreachable` where the server does not answer)."""

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Deliver and wait until each event is confirmed or has failed; never raises for one.

        Returns the failed ones: place in `events` → RetryableError, PermanentError or
        FatalError. All others are durable at the far side.
        """

    def settled_state(self) -> Mapping[str, str] | None:
        """Return what must be stored in the settle transaction of the batch just delivered.

        None when the sink keeps nothing. Called once per batch after its last `deliver`; and where
        nothing is stored yet, after `open`: that is stored before the first `deliver`. So a sink
        that opens without a state has written nothing, or its state has been lost or reset.
        """

    def close(self) -> None:
        """Flush and disconnect, within 5 seconds of the far side's last sign of life."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message as a broker takes it, byte for byte; a key that is text, as the sink writes keys."""

    key: bytes | str | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@runtime_checkable
class RecordSink(Protocol):
    """What a sink of a broker has: it takes messages as they are, to its own topic.

    Copies of dead letters go through it, so that they have the bytes, the key and the headers that the
    message had which failed. Sinks without it get a CloudEvent instead.
    """

    def deliver_records(self, records: Sequence[Record]) -> Mapping[int, PenstockError]:
        """Deliver and wait, as `Sink.deliver` does."""


@runtime_checkable
class Undoing(Protocol):
    """What a sink has that undoes what was not settled: it does so for a lost writer, too."""

    def undo_unsettled(self, state: Mapping[str, str]) -> None:
        """Undo what a writer wrote after `state`, its last `settled_state`, that won't come back.

        Called on a sink that is not open, for no writer that lives; may be called again. Raises
        FatalError.
        """


@runtime_checkable
class TransactionalSink(Protocol):
    """What a sink has that makes what it delivered visible together with the source's positions.

    Opened with a `SinkOpening.transaction`, it shuts out any older sink of the same `writer`; what
    that had not committed never happened. Then `deliver` confirms that an event is part of the open
    transaction, and nobody sees it before `commit`.
    """

    def preflight_transactions(self, scope: TransactionScope) -> Iterable[Check]:
        """Connect and check what transactions of this scope need, changing nothing."""

    def committed(self, partitions: Iterable[str]) -> set[str]:
        """Return the names of the transactions that moved these source partitions last.

        Raises RetryableError, FatalError.
        """

    def commit(self, positions: Mapping[str, Position], name: str) -> None:
        """Commit what was delivered since the last commit, and `positions`, under `name`.

        A transaction that the server gave up on is made again from what was delivered. After a
        RetryableError it is open: call again with the same arguments. Raises FatalError, with the
        code `kafka_fenced` when another writer has taken the name.
        """


@dataclass(frozen=True, slots=True)
class ConnectorType:
    """An entry point's value: one `type:` of a flow file, and how to make it.

    A factory of None marks a type that is modelled and validated but not built yet: `run`
    refuses it, naming its line. `messaging.*` types have both factories.
    """

    name: str
    settings: type[Settings]
    summary: str
    source: Callable[[str, Any], Source] | None = None
    """(module name, settings) → source"""
    sink: Callable[[str, Any], Sink] | None = None
    """(module name, settings) → sink"""
    roles: frozenset[Literal["source", "sink"]] = field(default_factory=frozenset)
    """What it will be, for types without a factory yet."""
    by_time: bool = False
    """Its past can be read by time (`SourceTraits.seek_by_time`), without an archive."""
    cluster: Callable[[Any], str] | None = None
    """Settings → which cluster's transactions can hold its positions and events together (as its
    addresses say, until it is connected); None: it has no transactions."""
    preview: str = ""
    """Why it is not to be relied upon like the others: what it has not been tested against. Set where no
    faithful server could be had; shown by `penstock connectors list`. "": it is not a preview."""


__all__ = [
    "LANES",
    "Attribute",
    "Batch",
    "Check",
    "Column",
    "ConnectorType",
    "Delivery",
    "EndOfSource",
    "Gap",
    "Inbox",
    "Lag",
    "Opening",
    "Outgoing",
    "Position",
    "Reader",
    "Record",
    "RecordSink",
    "Shard",
    "Sink",
    "SinkOpening",
    "SinkTraits",
    "SlotHealth",
    "SlotReading",
    "SnapshotReport",
    "SnapshotRequest",
    "Snapshotting",
    "Source",
    "SourceTraits",
    "Survey",
    "Surveying",
    "Taken",
    "TransactionScope",
    "TransactionalSink",
    "Undoing",
    "Window",
]
