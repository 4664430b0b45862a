"""What a worker tells its supervisor: one JSON line each half second, over a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from connectors.contracts import Lag, SlotHealth
from flows.runtime.happenings import Happening
from flows.runtime.measures import Measures

State = Literal["starting", "standby", "running", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class PipelineCounts:
    """Executions of one pipeline since its worker started."""

    received: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: PipelineCounts) -> PipelineCounts:
        return PipelineCounts(
            self.received + other.received,
            self.done + other.done,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """One execution that became a dead letter."""

    id: str
    pipeline: str
    step: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Why a worker stopped: the supervisor prints it and chooses the exit code."""

    code: str
    message: str
    hint: str
    unreachable: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's state of the moment."""

    state: State
    status: str = ""
    """What it waits for, or ""."""
    pipelines: dict[str, PipelineCounts] = field(default_factory=dict)
    lags: dict[str, Lag] = field(default_factory=dict)
    parked: dict[str, int] = field(default_factory=dict)
    """Pipeline → executions that wait to be tried again, or behind one that does."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    """Pipeline → dead letters there are of it, all workers together; told by the first of them."""
    outbox: dict[str, int] = field(default_factory=dict)
    """Pipeline → events in outboxes that are still to be published, all workers together; told by the
    first of them."""
    failures: list[Failure] = field(default_factory=list)
    """Those since the last report, at most a few."""
    error: ErrorReport | None = None
    connectors: dict[str, str] = field(default_factory=dict)
    """Source or sink module, or step with a circuit breaker (by the module it uses, else as
    `pipeline/step`) → what it waits for; "" when it is well."""
    active: dict[str, int] = field(default_factory=dict)
    """Pipeline → executions of the batch that is in its steps."""
    stalled: float = 0.0
    """Seconds since the last checkpoint while something waits for one; else 0."""
    slots: dict[str, SlotHealth] = field(default_factory=dict)
    """Source partition → how its replication slot is, for sources that read such."""
    memory: int | None = None
    """Bytes that the process holds; None where the system doesn't tell."""
    measures: Measures = field(default_factory=Measures)

    def encode(self) -> bytes:
        """Return the report as one line."""
        return orjson.dumps(self) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Report:
        """Return the report of a line. Raises ValueError for a torn one."""
        data = orjson.loads(line)
        error = data["error"]
        return cls(
            state=data["state"],
            status=data["status"],
            pipelines={k: PipelineCounts(**v) for k, v in data["pipelines"].items()},
            lags={k: Lag(**v) for k, v in data["lags"].items()},
            parked=data["parked"],
            dead_letters=data["dead_letters"],
            outbox=data["outbox"],
            failures=[Failure(**item) for item in data["failures"]],
            error=ErrorReport(**error) if error else None,
            connectors=data["connectors"],
            active=data["active"],
            stalled=data["stalled"],
            slots={k: SlotHealth(**v) for k, v in data["slots"].items()},
            memory=data["memory"],
            measures=Measures.decode(data["measures"]),
        )


_HAPPENED = b'{"happened":'


def encode_happenings(found: Sequence[Happening]) -> bytes:
    """Return as one line what happened, told between two reports; b"" where nothing did."""
    return _HAPPENED + orjson.dumps(found) + b"}\n" if found else b""


def decode_happenings(line: bytes) -> list[Happening] | None:
    """Return what happened; None for a line that is a report. Raises ValueError for a torn one."""
    if not line.startswith(_HAPPENED):
        return None
    return [(kind, about) for kind, about in orjson.loads(line)["happened"]]


def sum_lags(lags: Iterable[Lag]) -> Lag:
    """Add up counts; of ages take the greatest."""
    found = list(lags)
    events = [lag.events for lag in found if lag.events is not None]
    sizes = [lag.bytes for lag in found if lag.bytes is not None]
    ages = [lag.seconds for lag in found if lag.seconds is not None]
    return Lag(
        events=sum(events) if events else None,
        bytes=sum(sizes) if sizes else None,
        seconds=max(ages, default=None),
    )
