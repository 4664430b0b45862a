"""What a step must do. A step is found by entry point (group `penstock.steps`) as a `StepType`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from connectors.batch import Column
from connectors.contracts import Sink
from connectors.settings import Settings
from transforms.executions import Executions


@runtime_checkable
class Step(Protocol):
    """One step of one pipeline in one worker, called once per batch."""

    has_output: bool
    """Whether `run` returns outputs. `.steps.<name>.output` exists for those that do."""

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Do the step for the executions `indexes` and return one output for each, in order.

        An execution that fails gets its error in `executions.failures[index]` (a PenstockError)
        and any output; nothing raises for one event. A step without output returns [].
        Blocks until all are done.
        """

    def close(self) -> None:
        """Let go of connections. Called once, after the last `run`."""


@dataclass(frozen=True, slots=True)
class StepEnvironment:
    """What the runtime gives a step when it is made."""

    flow: str
    pipeline: str
    name: str
    """The step's own name."""
    number: int
    """Its place in the pipeline: 0, 1, …"""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Every step's name → number, for jumps."""
    earlier: Sequence[str] = ()
    """Names of the earlier steps that have an output, first to last."""
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    """Opened sinks by module name."""
    validator: Callable[[str], Callable[[Any], Sequence[str]]] | None = None
    """`name` or `name@version` of a schema → function that returns what is wrong with a value."""
    folder: Path = Path()
    """The flow file's folder; python steps import from there first."""


@dataclass(frozen=True, slots=True)
class StepType:
    """An entry point's value: one `type: step.…` and how to make it.

    `make` of None marks a step that is modelled and validated but not built yet.
    """

    name: str
    settings: type[Settings]
    summary: str
    make: Callable[[Any, StepEnvironment], Step] | None = None
    effect: bool = False
    """It changes something outside (publish, a non-GET call)."""
    outside: bool = False
    """It asks something outside, if only to read: a test of a flow has to mock it. What has an
    `effect` does anyway."""
    has_output: bool = True
