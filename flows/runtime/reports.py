"""What a worker tells its supervisor: one JSON line each half second, over a pipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

from connectors.contracts import Lag

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
    failures: list[Failure] = field(default_factory=list)
    """Those since the last report, at most a few."""
    error: ErrorReport | None = None

    def encode(self) -> bytes:
        """Return the report as one line."""
        return orjson.dumps(asdict(self)) + b"\n"

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
            failures=[Failure(**item) for item in data["failures"]],
            error=ErrorReport(**error) if error else None,
        )
