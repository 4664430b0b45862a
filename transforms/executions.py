"""`Executions`: one batch of events on its way through one pipeline's steps.

Nothing is made per event that nobody asked for: while every execution simply goes on, a step
is a list comprehension over columns, and the sparse maps `ended` and `jumps` stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal

from connectors.batch import Batch, Column
from connectors.errors import PenstockError


class _Unset:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


_WHOLE = frozenset({"trigger", "event"})
_NOT_OF_TRIGGER = frozenset({"steps", "meta"})
_CHANGE = frozenset({"before", "after", "operation"})
_ATTRIBUTES = frozenset(
    {"id", "source", "type", "subject", "time", "datacontenttype", "dataschema"}
)

UNSET: Final = _Unset()
"""Stands in a step's output column where the step did not run. Never shown to a flow."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Why an execution goes no further now: it failed at `step`, was skipped, or never started.

    A parked one is set aside and goes on later: see `Executions.waits`. An undone one had failed
    before, and came again only to have its compensations tried once more. A repeated one is the same
    event once more, whose execution is under way or done: nothing is recorded of it but its number.
    """

    outcome: Literal["failed", "skipped", "not_triggered", "parked", "undone", "repeated"]
    step: str | None = None
    error: PenstockError | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An execution that was skipped, since another had done its work: its idempotency key says so."""

    original: str
    """The other execution's id."""
    result: str | None
    """That one's result, as JSON; None where it has none."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Where and when a parked execution goes on."""

    step: int
    """The number of the step it goes on with."""
    attempts: int = 0
    """Tries that this step has had; 0 when it only waits behind another execution."""
    seconds: float = 0.0
    error: PenstockError | None = None
    """Of the last try."""
    paused: bool = False
    """An operator holds it: it goes on when one lets it."""


@dataclass(slots=True)
class Executions:
    """The executions of `events` in `pipeline`; index k everywhere is the batch's event k."""

    events: Batch
    pipeline: str
    outputs: dict[str, Column] = field(default_factory=dict)
    """Step name → its output per event; UNSET where it did not run."""
    details: dict[str, Column] = field(default_factory=dict)
    """Step name → dict per event of what `.steps.<name>` has beside `.output` (status, headers)."""
    encoded: dict[str, Sequence[bytes | None]] = field(default_factory=dict)
    """Step name → its output as JSON text, where a step has made that already; history reuses it."""
    ended: dict[int, Ended] = field(default_factory=dict)
    jumps: dict[int, int] = field(default_factory=dict)
    """Index → number of the step it jumps to (`conditional`); gone once it gets there."""
    failures: dict[int, PenstockError] = field(default_factory=dict)
    """What failed in the step that is running: a step puts errors here, its runner settles them."""
    passed_over: dict[str, dict[int, PenstockError | None]] = field(default_factory=dict)
    """Step name → indexes it did not apply to (`if:`, None) or failed and was skipped (`on_error`)."""
    started: float = 0.0
    """Wall clock, seconds since the epoch."""
    starts: dict[int, float] = field(default_factory=dict)
    """Index → when it started, where that was before `started`: it has waited, or was cut off."""
    took: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Step name → when it began with this batch, and the seconds it took for all of it."""
    took_before: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Index → the same of steps that ran before the execution was parked."""
    held_back: list[float] = field(default_factory=list)
    """Seconds for which sinks that were away held the batch back. Shared with the executions of loops
    inside."""
    keys: Column | None = None
    """The pipeline's own `key:` per event, where it sets one; see `key_column`."""
    base_meta: dict[str, Any] = field(default_factory=dict)
    """What `.meta` holds: flow, pipeline, started_at."""
    scope: dict[str, Column] = field(default_factory=dict)
    """Name → value per index: what a loop adds to the context's root (`item`, `index`)."""
    passes: Column | None = None
    """In a loop: the pass of its event that each index is, as text (`3`, `3.0` in an inner loop)."""
    takes_turns: bool = True
    """Whether calls for one key are made one after another; a loop sees to that itself."""
    waits: dict[int, Wait] = field(default_factory=dict)
    """Index → how it was parked; its `ended` says "parked" then."""
    lanes: Column | None = None
    """Per event what order is kept by when executions wait: key or partition. None: nothing waits
    behind another."""
    resumed: dict[int, Any] = field(default_factory=dict)
    """Index → the record of the parked execution that goes on here (flows.state.records.Parked)."""
    replays: dict[int, Any] = field(default_factory=dict)
    """Index → the dead letter that it replays (flows.state.records.ReplayLink)."""
    runs: dict[int, str] = field(default_factory=dict)
    """Index → which run of its event it is, where it is not the first: part of its id."""
    failed_at: dict[int, str] = field(default_factory=dict)
    """Index → place within the running step that its failure comes from, such as `lines[3].charge`."""

    claims: dict[int, Any] = field(default_factory=dict)
    """Index → the idempotency key that it holds (flows.state.records.Claim), where its pipeline has
    such."""
    undecided: dict[bytes, Any] = field(default_factory=dict)
    """Digest → the claim of an idempotent step that failed, and perhaps is tried again. Shared with
    the executions of loops inside; settle decides what becomes of them."""
    duplicates: dict[int, Duplicate] = field(default_factory=dict)
    """Index → whose work it would have done again; its `ended` says "skipped"."""
    sagas: dict[int, Any] = field(default_factory=dict)
    """Index → how far its saga is (flows.state.sagas.Saga); only in a pipeline that has one."""
    undone: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Index → the compensations of a failed saga, in their order, as dead letters show them."""
    signals: list[Any] = field(default_factory=list)
    """What became of operators' signals to these executions (flows.state.records.SignalOutcome)."""
    _few: tuple[Sequence[int], Batch] | None = field(default=None, init=False, repr=False)
    _few_ids: tuple[Sequence[int], list[str]] | None = field(default=None, init=False, repr=False)

    def going(self, number: int) -> Sequence[int]:
        """Return the indexes that run the step `number` (0, 1, …), in order."""
        if not self.ended and not self.jumps:
            return range(self.events.size)
        ended, jumps = self.ended, self.jumps
        if jumps:
            for index in [index for index, to in jumps.items() if to <= number]:
                del jumps[index]
        size = self.events.size
        gone = ended.keys() | jumps.keys() if jumps else ended
        if len(gone) > size >> 3:
            return [k for k in range(size) if k not in gone]
        # Few of many, as where one key in a hundred waits: a tenth of what looking at each costs.
        indexes = list(range(size))
        for index in sorted(gone, reverse=True):
            del indexes[index]
        return indexes

    def few(self, indexes: Sequence[int]) -> Batch:
        """Return the events of these executions alone; kept until others are asked for."""
        if self._few is None or self._few[0] != indexes:
            self._few = indexes, self.events.pick(indexes)
        return self._few[1]

    def key_column(self) -> Column:
        """Return the key per event that order is kept by: the pipeline's, else the source's."""
        return self.events.column("key") if self.keys is None else self.keys

    def turn_column(self) -> Column:
        """Return the key per event whose calls are made one after another; None: at any time."""
        if self.lanes is not None:
            return self.lanes
        return self.key_column() if self.takes_turns else [None] * self.events.size

    def started_at(self, index: int) -> float:
        """Return when the execution began, later by what sinks that were away took of its time."""
        return self.starts.get(index, self.started) + sum(self.held_back)

    def end(self, index: int, ended: Ended) -> None:
        """End the execution `index`; the first end stands."""
        self.ended.setdefault(index, ended)

    def picked(self, column: Column, indexes: Sequence[int]) -> Column:
        """Return the entries at `indexes`: the column itself where they are all of it."""
        if len(indexes) == self.events.size:
            return column
        return [column[index] for index in indexes]

    def output_column(self, step: str, indexes: Sequence[int]) -> Column:
        """Return what a step put out, per index; None where it has not run."""
        column = self.outputs.get(step)
        if column is None:
            return [None] * len(indexes)
        return [None if value is UNSET else value for value in self.picked(column, indexes)]

    def root(self, index: int, name: str) -> Any:
        """Return what `.<name>` is at the root of the context of `index`; None when absent.

        Precedence: trigger, steps, meta, event → data, before, after, operation → a loop's item
        and index → the fields of an object `data` → the envelope's attributes. Only what it takes
        to tell is built.
        """
        if name in self.scope:  # never one of the names that come before it
            return self.scope[name][index]
        if name == "steps":
            return self.steps_view(index)
        if name == "meta":
            return self.base_meta
        return self.trigger_field(index, name)

    def root_column(self, name: str, indexes: Sequence[int]) -> Column:
        """Return what `root` does, per index."""
        if name in self.scope or name in _NOT_OF_TRIGGER:
            return [self.root(index, name) for index in indexes]
        return self.trigger_column(name, indexes)

    def trigger_column(self, name: str, indexes: Sequence[int]) -> Column:
        """Return what `trigger_field` does, per index: in one go where it is a field of all data."""
        if name not in _CHANGE and name not in _WHOLE and name != "data":
            data = self.events.column("data")
            try:
                if len(indexes) == len(data):
                    return [one[name] for one in data]
                return [data[index][name] for index in indexes]
            except (KeyError, TypeError):
                pass  # some have no such field, or are no object
        return [self.trigger_field(index, name) for index in indexes]

    def trigger_field(self, index: int, name: str) -> Any:
        """Return what `.trigger.<name>` is: the root without steps, meta and a loop's names."""
        if name == "data":
            return self.events.column("data")[index]
        if name in _CHANGE:
            change = self.events.column("change")[index]
            if change is not None:
                return getattr(change, name)
        elif name in _WHOLE:
            trigger = self.trigger_view(index)
            return trigger if name == "trigger" else trigger["event"]
        data = self.events.column("data")[index]
        if isinstance(data, dict) and name in data:
            return data[name]
        if name in _ATTRIBUTES:
            return self.events.column(name)[index]
        if name == "specversion":
            return "1.0"
        return self.events.column("extensions")[index].get(name)

    def steps_view(self, index: int) -> dict[str, Any]:
        """Return `.steps` of `index`: the steps that ran, each `{output, …}`."""
        seen: dict[str, Any] = {}
        for name, column in self.outputs.items():
            value = column[index]
            if value is UNSET:
                continue
            shown: dict[str, Any] = {"output": value}
            detail = self.details.get(name)
            if detail is not None and detail[index]:
                shown |= detail[index]
            seen[name] = shown
        return seen

    def trigger_view(self, index: int) -> dict[str, Any]:
        """Return `.trigger` of `index`: the event as the context's root shows it."""
        event = self.events.event(index)
        attributes = event.attributes()
        view: dict[str, Any] = dict(attributes)
        if isinstance(event.data, dict):
            view |= event.data
        view["data"] = event.data
        if event.change is not None:
            view["before"] = event.change.before
            view["after"] = event.change.after
            view["operation"] = event.change.operation
        view["event"] = {**attributes, "data": event.data}
        return view

    def context(self, index: int) -> dict[str, Any]:
        """Return the whole context of `index`, as jq programs and templates see it."""
        trigger = self.trigger_view(index)
        return {
            **trigger,
            **{name: column[index] for name, column in self.scope.items()},
            "trigger": trigger,
            "steps": self.steps_view(index),
            "meta": self.base_meta,
        }

    def execution_id(self, index: int) -> str:
        """Return the execution's id: a UUIDv7 of the event's time and a hash of what it is.

        The same event in the same pipeline has the same id however often it is delivered; each
        replay of it has another one.
        """
        return self._id(index, self.runs.get(index, ""))

    def ids_of(self, indexes: Sequence[int]) -> list[str]:
        """Return the ids of a few executions; nothing is made for the others."""
        known = self._few_ids
        if known is not None and known[0] == indexes:
            return known[1]
        few, runs, pipeline = self.few(indexes), self.runs, self.pipeline
        rows = zip(
            few.column("timestamp"), few.column("source"), few.column("id"), indexes, strict=True
        )
        ids = [
            derive_uuid7(at or 0.0, source, event, pipeline, runs.get(index, ""))
            for at, source, event, index in rows
        ]
        self._few_ids = indexes, ids
        return ids

    def first_id(self, index: int) -> str:
        """Return the id that the event's execution has when it is no replay."""
        return self._id(index, "")

    def _id(self, index: int, run: str) -> str:
        at = self.events.column("timestamp")[index]
        parts = (
            self.events.column("source")[index],
            self.events.column("id")[index],
            self.pipeline,
            run,
        )
        return derive_uuid7(at or 0.0, *parts)


def derive_uuid7(seconds: float, *parts: str) -> str:
    """Return the UUIDv7 (RFC 9562, 5.7) of a time and a hash of `parts`, not of chance."""
    digest = blake2b("\x00".join(parts).encode(), digest_size=10).digest()
    value = (max(0, int(seconds * 1000)) & (1 << 48) - 1) << 80 | int.from_bytes(digest, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"  # as str(UUID(int=value)), in a third of the time
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
