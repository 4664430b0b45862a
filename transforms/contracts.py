"""What a step must do. A step is found by entry point (group `penstock.steps`) as a `StepType`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from connectors.batch import Column
from connectors.contracts import Check, Sink
from connectors.settings import Settings
from schema_registry.validation import Validator
from transforms.executions import Executions

if TYPE_CHECKING:
    from transforms.steps.outbox import Outbox


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

        Inside `step.foreach` and the like it is called with other executions than the batch's,
        several times per batch; inside `step.parallel` perhaps on another thread, never on two at
        once. A step whose settings have a `timeout`, in seconds per event, must keep it: the
        `timeout:` that any step may have is handed to it there, and refused for all others.
        """

    def close(self) -> None:
        """Let go of connections. Called once, after the last `run`."""


@runtime_checkable
class Telling(Protocol):
    """What a step has that sometimes waits, or refuses to act: it says so to the operator."""

    @property
    def status(self) -> str:
        """What it waits for, or ""; asked for by any thread, and often."""


class InnerStep(Protocol):
    """A step inside a step, with its conditions and with what becomes of its failures."""

    @property
    def name(self) -> str:
        """Its name in the list that it stands in."""

    @property
    def outputs(self) -> Sequence[str]:
        """The names under which it leaves outputs: its own, and those of steps inside it."""

    @property
    def reaches_out(self) -> bool:
        """Whether it asks or changes something outside, so that order and number show there."""

    @property
    def may_be_threaded(self) -> bool:
        """Whether it waits for servers, and may do so on a thread that is not the dataflow's."""

    def __call__(self, executions: Executions) -> bool:
        """Run it for those that go on; what fails has then ended, at a place inside the step.

        Returns False when the worker must stop: nothing of the batch will be settled.
        """


class MakeInner(Protocol):
    """Makes the steps of one list of steps inside a step."""

    def __call__(
        self, group: str, earlier: Sequence[str], *, apart: bool = False
    ) -> Sequence[InnerStep]:
        """Return the steps of `group`, the list's path in the config: `steps`, `branches.gold`.

        `earlier` are the outputs they can read; each reads those before it too, unless `apart`.
        The runtime closes them.
        """


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
    validator: Callable[[str], Validator] | None = None
    """`name` or `name@version` of a schema → what checks values against it."""
    folder: Path = Path()
    """The flow file's folder; python steps import from there first."""
    inner: MakeInner | None = None
    """Makes the steps that stand inside this one."""
    within: str = ""
    """The steps that this one stands in, each followed by a period."""
    redact: Callable[[str], str] = str
    """Masks the flow's secrets. The runtime does so with what is in `executions.failures`; a step
    that makes an output of an error does it itself."""
    module: str | None = None
    """The step module that it uses."""
    common: dict[str, Any] | None = None
    """Where it uses a step module: what all users of the module in this worker have in common, for
    them to put there. They are made one after another, but may run on different threads."""

    outbox: Outbox | None = None
    """What is published with the change that it makes, in one transaction."""
    relayed: bool = False
    """Its events are published from the outbox of the step before it: it has none to deliver but what
    was refused there and is replayed."""

    @property
    def place(self) -> str:
        """The step's name with those it stands in: `lines.charge`."""
        return f"{self.within}{self.name}"


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
    preflight: Callable[[Any, Path], Iterable[Check]] | None = None
    """(settings, the flow file's folder) → what running needs of servers, checked without changing
    or asking anything. Raises PenstockError."""
    shared: tuple[str, ...] = ()
    """Settings which, in a step module, hold for all steps that use it together: limits. Such a step
    can't set them itself, so they are the module's in its settings too."""
    shares_names: bool = False
    """Steps inside it leave their outputs among those of the steps beside it."""
