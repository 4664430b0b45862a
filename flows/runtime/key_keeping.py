"""Where a worker's idempotency keys are: the state store, or the Redis that a pipeline names.

Keys of steps are always in the state store, where all pipelines that use a step module find them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.failpoints import fail_point
from flows.runtime.halt import Halt
from flows.runtime.idempotency import OncePerKey
from flows.runtime.idempotent_steps import StepKeys
from flows.runtime.key_keeper import KeyKeeper
from flows.runtime.parking import Parking
from flows.spec.pipelines import Idempotency
from flows.state.idempotency import NotedOutcomes, StateKeys
from flows.state.records import Settlement

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan, SourcePlan

STEP_LEASE = 60.0
"""Seconds that a step's key is held without a sign of life from its worker."""


@dataclass(frozen=True, slots=True)
class PipelineKeys:
    """Who keeps the keys of one pipeline; None for what it does not have."""

    pipeline: KeyKeeper | None
    steps: KeyKeeper | None
    elsewhere: bool
    """The pipeline's own are not in the state store."""

    def once(self, plan: PipelinePlan, halt: Halt, parking: Parking) -> OncePerKey | None:
        """Return the operator of the pipeline's idempotency."""
        if self.pipeline is None:
            return None
        return OncePerKey(plan, self.pipeline, halt, parking, elsewhere=self.elsewhere)

    def of_steps(self, plan: PipelinePlan) -> StepKeys | None:
        """Return what lets the pipeline's steps act once per key."""
        return None if self.steps is None else StepKeys(plan.name, self.steps)


def open_keys(
    plan: FlowPlan, source: SourcePlan, halt: Halt, opened: ExitStack
) -> dict[str, PipelineKeys]:
    """Return pipeline → who keeps its keys, of those that have any; `opened` closes the stores.

    Connects to nothing yet. Raises FatalError for a URL that is none.
    """
    made: dict[str, PipelineKeys] = {}
    for pipeline in source.pipelines:
        own = pipeline.idempotency
        if own is None and not pipeline.keeps_step_keys:
            continue
        of_pipeline = of_steps = None
        elsewhere = own is not None and own.store != "state"
        if own is not None and elsewhere:
            of_pipeline = _in_redis(plan, pipeline, own, halt, opened)
        elif own is not None:
            of_pipeline = KeyKeeper(StateKeys(plan.state_url, plan.name), halt, own.lease)
            opened.callback(of_pipeline.close)
        if pipeline.keeps_step_keys:
            of_steps = KeyKeeper(StateKeys(plan.state_url, plan.name), halt, STEP_LEASE)
            opened.callback(of_steps.close)
        made[pipeline.name] = PipelineKeys(of_pipeline, of_steps, elsewhere)
    return made


def _in_redis(
    plan: FlowPlan, pipeline: PipelinePlan, own: Idempotency, halt: Halt, opened: ExitStack
) -> KeyKeeper:
    # Imported for flows that name one only: redis is 4 MB that no other flow has use for.
    from flows.state.redis_keys import RedisKeys  # noqa: PLC0415 - see above

    noted = NotedOutcomes(plan.state_url, plan.name, pipeline.name)
    opened.callback(noted.close)
    keeper = KeyKeeper(RedisKeys(own.store, plan.name), halt, own.lease, begin=noted.tell)
    opened.callback(keeper.close)
    return keeper


def teller(
    keys: dict[str, PipelineKeys],
) -> Callable[[Sequence[Settlement]], None] | None:
    """Return a function that tells Redis what was settled; None when all keys are in the state store.

    It raises RetryableError, and may be called again with the same.
    """
    elsewhere = {
        name: each.pipeline.keys
        for name, each in keys.items()
        if each.elsewhere and each.pipeline is not None
    }
    if not elsewhere:
        return None

    def tell(settlements: Sequence[Settlement]) -> None:
        fail_point("before_keys_are_told")
        for settlement in settlements:
            if settlement.keys_elsewhere:
                elsewhere[settlement.pipeline].settle(settlement.keys_elsewhere)

    return tell
