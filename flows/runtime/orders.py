"""What a supervisor asks of a worker, as it goes over the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

from flows.runtime.logs import Level

DRAIN_TIMEOUT = 20.0
"""Seconds: time for a slow step to end, whose effects would happen again; within the 30 of Kubernetes."""


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a supervisor asks of a worker."""

    files: list[str]
    source: str
    holder: str
    """Names the supervisor: a worker that it starts again takes its own lease over at once."""
    report_fd: int
    index: int = 0
    of: int = 1
    shards: list[str] = field(default_factory=list)
    """The shards of all workers of the run; what any other has left is undone. Empty: this one."""
    writers: dict[str, str] = field(default_factory=dict)
    """Sink module → this worker's label, for sinks that several workers write through."""
    until_caught_up: bool = False
    log_format: Literal["console", "json"] = "json"
    log_level: Level | None = None
    """Instead of the flow file's."""
    addresses: list[str] = field(default_factory=list)
    """host:port of every process of the cluster, this one's at `process`; empty without one."""
    process: int = 0
    watch_fd: int = -1
    """What tells whether somebody watches (`flows.runtime.watched`)."""
    reads: bool = True
    """It has a share of the source; without, it only takes part in a cluster's exchanges."""
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds that a drain may take before what is in flight is given up."""
    only_replays: bool = False
    """It runs replays of dead letters, and sagas that are retried, to their end; it reads nothing."""

    @property
    def shard(self) -> str:
        """The lease's name of this share."""
        return f"{self.source}/{self.process if self.addresses else self.index}"

    def encode(self) -> str:
        """Return the order as a command-line argument."""
        return orjson.dumps(asdict(self)).decode()
