"""What a worker does otherwise when it runs a job over past events, and not the live source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from connectors.batch import Position
from connectors.contracts import Reader
from flows.runtime.committer import Committer
from flows.runtime.halt import Halt
from flows.runtime.settle import Outcomes


class Job(Protocol):
    """A job: its plan has a source module of the job's own name, with the pipeline that it runs.

    What is kept under that name (positions, lease, what is parked) is never the live source's.
    """

    @property
    def run(self) -> str:
        """Part of the ids of its executions, which are others than those of live events."""

    def open_reader(self, positions: Mapping[str, Position], halt: Halt) -> Reader:
        """Open what is read instead of the source."""

    def outcomes(self, committer: Committer) -> Outcomes:
        """Return where outcomes go on their way to the committer."""
