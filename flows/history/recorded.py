"""`Recorded`: one execution, from wherever it is kept, as readers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from connectors.errors import PenstockError
from flows.history.plans import PipelineShape, shape_of
from flows.runtime.reviving import details_of, outputs_of, revived
from flows.runtime.tenants import tenants
from flows.state.chunk_store import ChunkRow
from flows.state.contracts import StateStore
from flows.state.errors import error_of
from flows.state.history import ChunkView, decode_chunk
from flows.state.letters import execution_id
from flows.state.records import DeadLetter, Parked, ReplayLink
from flows.state.sagas import Saga
from flows.state.signals import Signal
from transforms.executions import Duplicate, Ended, Executions
from transforms.expressions import Program, compile_jq

Status = Literal["completed", "failed", "skipped", "waiting", "paused"]
"""`waiting`: it is parked, to be tried again or behind one that is; `paused`: parked by an operator."""

_STATUSES: Mapping[str, Status] = {"failed": "failed", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One execution. Times are seconds since the epoch."""

    id: str
    flow: str
    flow_version: str
    source: str
    status: Status
    executions: Executions
    """Those that it was settled with, as far as they are kept; itself is `index`."""
    index: int
    shape: PipelineShape | None
    """Its pipeline as it was then; None where that was not kept."""
    started_at: float | None = None
    ended_at: float | None = None
    tries: Sequence[Mapping[str, Any]] = ()
    """Its failed tries, as flows.state.tries has them; the last one may be missing."""
    parked: Parked | None = None
    """What is kept of it while it waits."""
    letter: str | None = None
    """Its dead letter, where it is one now."""
    saga: Saga | None = None
    """Its saga, where that is kept: while it runs, or when it has failed."""
    signals: Sequence[Signal] = ()
    """What operators have asked of it, oldest first."""
    redacted: bool = False
    """Whether something of it was masked before it was recorded: it can't run again as it was."""
    batch: int = 1
    """How many executions went through the steps with it."""

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.executions.pipeline

    @property
    def error(self) -> PenstockError | None:
        """Why it failed."""
        ended = self.executions.ended.get(self.index)
        return None if ended is None else ended.error

    @property
    def step(self) -> str | None:
        """Where it failed, or what it waits for; None: before the first step."""
        if self.parked is not None:
            return self.parked.step
        ended = self.executions.ended.get(self.index)
        return None if ended is None else ended.step

    @property
    def duplicate(self) -> Duplicate | None:
        """Whose work it would have done again."""
        return self.executions.duplicates.get(self.index)

    @property
    def replay(self) -> str | None:
        """Which replay it is an execution of, such as `replay-2`."""
        run = self.executions.runs.get(self.index, "")
        return run.partition("/")[0] if run.startswith("replay-") else None

    @property
    def tenant(self) -> str:
        """Whose event it is."""
        (found,) = tenants(tenant_program(self.shape), self.executions, [self.index])
        return str(found)

    def attribute(self, name: str) -> Any:
        """Return what a column of its event has, such as `id`, `type` or `key`."""
        return self.executions.events.column(name)[self.index]


@dataclass(slots=True)
class Shapes:
    """What the pipelines of one flow were like, each version read once."""

    store: StateStore
    flow: str
    _known: dict[str, Any] = field(default_factory=dict)

    def of(self, version: str, pipeline: str) -> PipelineShape | None:
        """Return a pipeline as it was; None where that was not kept."""
        if version not in self._known:
            self._known[version] = self.store.chunks.version(self.flow, version)
        return shape_of(self._known[version], pipeline)


def tenant_program(shape: PipelineShape | None) -> Program | None:
    """Return what tells whose an event is; None where its own attribute does."""
    return None if shape is None or not shape.tenant else compile_jq(shape.tenant)


def of_chunk(row: ChunkRow, view: ChunkView, place: int, shape: PipelineShape | None) -> Recorded:
    """Return an execution of a chunk."""
    executions = view.executions
    ended = executions.ended.get(place)
    return Recorded(
        id=execution_id(executions, place, row.source),
        flow=row.flow,
        flow_version=row.flow_version,
        source=row.source,
        status="completed" if ended is None else _STATUSES.get(ended.outcome, "completed"),
        executions=executions,
        index=place,
        shape=shape,
        started_at=executions.starts.get(place, executions.started),
        ended_at=row.recorded_at,
        tries=json.loads(view.tries.get(place, "[]")),
        redacted=place in view.redacted,
        batch=row.count,
    )


def of_parked(parked: Parked, flow: str, shapes: Shapes) -> Recorded:
    """Return an execution that waits."""
    view = decode_chunk(parked.body)
    executions = view.executions
    if parked.place.replay is not None:
        link = ReplayLink(parked.place.replay, parked.letter or parked.place.id)
        executions.runs[0] = link.run_of(executions.first_id(0))
    return Recorded(
        id=parked.place.id,
        flow=flow,
        flow_version="",
        source=parked.place.source,
        status="waiting" if parked.place.paused_at is None else "paused",
        executions=executions,
        index=0,
        shape=_newest(shapes, executions.pipeline),
        started_at=parked.started_at,
        tries=json.loads(parked.tries),
        parked=parked,
    )


def of_letter(letter: DeadLetter, shapes: Shapes) -> Recorded:
    """Return an execution of which no more is kept than its dead letter."""
    row = {
        "kind": letter.error_kind,
        "message": letter.error_message,
        "code": letter.error_code,
        "hint": letter.error_hint,
        "context": json.loads(letter.context),
    }
    executions = Executions(
        revived([letter], [None]),
        letter.pipeline,
        outputs={name: [value] for name, value in outputs_of(letter).items()},
        details={name: [value] for name, value in details_of(letter).items()},
        ended={0: Ended("failed", letter.step, error_of(row))},
    )
    if letter.compensation is not None:
        executions.undone[0] = json.loads(letter.compensation)
    return Recorded(
        id=letter.id,
        flow=letter.flow,
        flow_version=letter.flow_version,
        source=letter.source,
        status="failed",
        executions=executions,
        index=0,
        shape=shapes.of(letter.flow_version, letter.pipeline),
        ended_at=letter.last_failed_at,
        tries=json.loads(letter.tries),
        letter=letter.id,
    )


def _newest(shapes: Shapes, pipeline: str) -> PipelineShape | None:
    version = shapes.store.chunks.newest_version(shapes.flow)
    return None if version is None else shapes.of(version, pipeline)
