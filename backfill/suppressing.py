"""Stands where a step would change something outside, or ask for something: nothing of it happens.

What a publish step composes is composed, checked against its schema, and handed over to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backfill.originals import Original
from backfill.report import Report
from connectors.batch import Column
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import PenstockError, PermanentError
from flows.plan import StepPlan
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.registry import step_type
from transforms.steps.publish import Composer


@dataclass(slots=True)
class AtHand:
    """The batch at hand: what was recorded of its events, and where what happens is counted."""

    report: Report
    originals: Sequence[Original | None] = field(default_factory=list)
    ran: dict[str, set[int]] | None = None
    """Publish step → the executions that it has composed an event of; None: nobody asks."""


class HeldPublish:
    """A publish step that composes its events, checks them, and hands none of them over."""

    has_output = False

    def __init__(self, plan: StepPlan, environment: StepEnvironment, at: AtHand) -> None:
        self._compose = Composer(plan.settings, environment).compose
        self._held_back = at.report.held_back
        self._place = plan.place_in_pipeline
        # Of one inside another step, indexes may be those of a loop.
        self._ran = None if plan.within or at.ran is None else at.ran.setdefault(plan.name, set())

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Count the events that would have been published; what can't be sent fails."""
        indexes, outgoing = self._compose(executions, indexes)
        if outgoing is not None:
            self._held_back[self._place] += len(outgoing)
            if self._ran is not None:
                self._ran.update(indexes)
        return []

    def close(self) -> None:
        """Nothing is held."""


class NoSink:
    """A sink that takes everything and keeps nothing; `connectors.contracts.Sink`."""

    def __init__(self, traits: SinkTraits) -> None:
        self.traits = traits

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """There is nothing to reach."""
        del topics
        return []

    def open(self, opening: SinkOpening) -> None:
        """There is nothing to open."""

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Keep nothing; no step hands anything over."""
        del events
        return {}

    def settled_state(self) -> Mapping[str, str] | None:
        """Nothing is kept."""
        return None

    def close(self) -> None:
        """Nothing is held."""


class HeldBack:
    """A step that is not run. Its output is what is recorded of the same event.

    Where nothing is, an execution goes no further: what comes next may depend on it.
    """

    def __init__(self, plan: StepPlan, at: AtHand) -> None:
        kind = step_type(plan.type)
        assert kind is not None  # noqa: S101 - the plan was checked when it was loaded
        self.has_output = kind.has_output
        self._plan = plan
        self._at = at
        self._acts = plan.acts

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return what was put out before."""
        plan, at = self._plan, self._at
        if self._acts:
            at.report.held_back[plan.place_in_pipeline] += len(indexes)
        if not self.has_output:
            return []
        out: Column = []
        answered = 0
        for index in indexes:
            value = self._recorded(executions, index)
            answered += value is not UNSET
            out.append(value)
        if answered:
            at.report.answered[plan.place_in_pipeline] += answered
        return out

    def _recorded(self, executions: Executions, index: int) -> object:
        plan = self._plan
        original = self._at.originals[index] if index < len(self._at.originals) else None
        if original is not None:
            old, place = original[0].view.executions, original[1]
            column = old.outputs.get(plan.name)
            if column is not None and column[place] is not UNSET:
                details = old.details.get(plan.name)
                if details is not None and details[place]:
                    self._details(executions)[index] = details[place]
                return column[place]
            error = _error_of(old, place, plan.name)
            if error is not None:
                executions.failures[index] = error
                return UNSET
        executions.failures[index] = PermanentError(
            f"step {plan.name} was not run, and nothing is recorded of what it would have put out.",
            code="effect_suppressed",
            hint="Steps that change something outside run in a live backfill alone.",
        )
        return UNSET

    def _details(self, executions: Executions) -> Column:
        name = self._plan.name
        column = executions.details.get(name)
        if column is None:
            column = executions.details[name] = [None] * executions.events.size
        return column

    def close(self) -> None:
        """Nothing is held."""


class Silent:
    """A log step that writes nothing: a million past events are no news."""

    has_output = False

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Do nothing."""
        del executions, indexes
        return []

    def close(self) -> None:
        """Nothing is held."""


def is_held_back(plan: StepPlan, *, offline: bool) -> bool:
    """Whether a step is not run as a whole: it, or a step inside it, reaches outside.

    Publish steps run, up to handing over. A `branch` runs, for the steps inside it are
    held back one by one: their outputs are recorded one by one too.
    """
    if plan.type == "step.publish":
        return False
    kind = step_type(plan.type)
    if plan.inner:
        if kind is not None and kind.shares_names:
            return False
        inner = (each for steps in plan.inner.values() for each in steps)
        return any(is_held_back(each, offline=offline) for each in inner)
    return plan.acts or (offline and kind is not None and asks_outside(kind, plan))


def asks_outside(kind: StepType, plan: StepPlan) -> bool:
    """Whether a step asks something outside, if only to read."""
    return kind.effect or kind.outside or bool(getattr(plan.settings, "effect", False))


def _error_of(old: Executions, place: int, step: str) -> PenstockError | None:
    """Return the error with which the recorded step failed."""
    passed = old.passed_over.get(step, {}).get(place)
    if passed is not None:
        return passed
    ended = old.ended.get(place)
    if ended is not None and ended.step == step:
        return ended.error
    return None
