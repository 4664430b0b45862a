"""A pipeline started by hand: an event that nobody sent, run as what is replayed is run.

It is added as an entry of a replay that says so (`trigger_requested`), so it is recorded, in order with
what waits of its key, and survives crashes. Done, the entry is gone; failed, it is a dead letter with
that error; not run, it is gone too, and the replay tells why.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase

from connectors.batch import Batch, Column
from connectors.errors import FlowFileError, PermanentError
from dlq.selection import Selection
from flows.plan import FlowPlan, PipelinePlan
from flows.runtime.tenants import tenants
from flows.spec.pipelines import Idempotency
from flows.spec.problems import did_you_mean
from flows.state.contracts import StateStore
from flows.state.letter_filter import LetterFilter
from flows.state.letters import dead_letter
from flows.state.records import DeadLetter, ReplayLink
from flows.state.replay_outcomes import TRIGGER_REQUESTED
from flows.state.triggers import Start, Started
from transforms.executions import Ended, Executions
from transforms.expressions import compile_jq

EVENT_SOURCE = "/penstock/trigger"
"""The `source` of events that are made here."""

DEFAULT_TYPE = "penstock.trigger"
"""Their `type` where neither the caller nor the pipeline's trigger names one."""

KEY_TTL = float(Idempotency.model_fields["ttl"].default)
"""Seconds that an idempotency key of a start is remembered, where the pipeline's `idempotency.ttl` says nothing."""

LONGEST_KEY = 512
"""Characters that such a key may have."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The event that somebody wants a pipeline to be started with."""

    pipeline: str
    data: bytes
    """JSON."""
    type: str | None = None
    key: str | None = None
    """The event's partition key."""
    subject: str | None = None
    id: str | None = None
    idempotency_key: str | None = None
    """The same key again starts nothing: it is answered with what was started first."""


def trigger(store: StateStore, plan: FlowPlan, wish: Wish, *, by: str) -> Started:
    """Have an event run through a pipeline; return the execution, and the replay that does it.

    Raises FlowFileError `unknown_pipeline`, `trigger_type`, `trigger_key`; RetryableError.
    """
    pipeline = _found(plan, wish)
    executions = _executions(pipeline, wish)
    letter = _letter(plan, pipeline, executions)
    selection = Selection(LetterFilter(flow=plan.name, ids=(letter.id,)))

    def execution_of(replay: int) -> str:
        executions.runs[0] = ReplayLink(replay, letter.id).run_of(letter.id)
        return executions.execution_id(0)

    return store.triggers.start(
        Start(
            letter,
            by,
            selection.text(),
            execution_of,
            key=wish.idempotency_key,
            ttl=KEY_TTL if pipeline.idempotency is None else pipeline.idempotency.ttl,
        )
    )


def _found(plan: FlowPlan, wish: Wish) -> PipelinePlan:
    known = {pipeline.name: pipeline for pipeline in plan.pipelines}
    pipeline = known.get(wish.pipeline)
    if pipeline is None:
        raise FlowFileError(
            f"the flow {plan.name} has no pipeline {wish.pipeline}.",
            code="unknown_pipeline",
            hint=did_you_mean(wish.pipeline, known),
        )
    key = wish.idempotency_key
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise FlowFileError(
            f"an idempotency key has 1 to {LONGEST_KEY} characters, and this one {len(key)}.",
            code="trigger_key",
            hint="Name what is asked for, such as order_20260215_abc123; without one, leave it out.",
        )
    glob = pipeline.event_type
    if glob is not None and not fnmatchcase(_type_of(pipeline, wish), glob):
        raise FlowFileError(
            f"pipeline {pipeline.name} takes events of type {glob}, not {_type_of(pipeline, wish)}.",
            code="trigger_type",
            hint="Name one that fits: --type.",
        )
    return pipeline


def _type_of(pipeline: PipelinePlan, wish: Wish) -> str:
    if wish.type is not None:
        return wish.type
    glob = pipeline.event_type
    return DEFAULT_TYPE if glob is None or set(glob) & set("*?[") else glob


def _executions(pipeline: PipelinePlan, wish: Wish) -> Executions:
    """Return the event, as one that has not been run."""
    now = datetime.now(timezone.utc)
    at = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    seconds = datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
    columns: dict[str, Column] = {
        "raw": [wish.data],
        "id": [wish.id or str(uuid.uuid4())],
        "source": [EVENT_SOURCE],
        "type": [_type_of(pipeline, wish)],
        "subject": [wish.subject],
        "time": [at],
        "timestamp": [seconds],
        "datacontenttype": ["application/json"],
        "dataschema": [None],
        "extensions": [{}],
        "change": [None],
        "wire": [None],
        # Of no source partition: the source's first worker runs it.
        "partition": [""],
        "position": [""],
        "key": [wish.key],
    }
    asked = PermanentError(
        "somebody wants the pipeline to run with this event.",
        code=TRIGGER_REQUESTED,
        hint="`penstock dlq replays` says how far it is.",
    )
    return Executions(
        Batch(1, columns, after={}), pipeline.name, ended={0: Ended("failed", None, asked)}
    )


def _letter(plan: FlowPlan, pipeline: PipelinePlan, executions: Executions) -> DeadLetter:
    """Return the entry that is replayed."""
    program = compile_jq(pipeline.tenant) if pipeline.tenant else None
    (tenant,) = tenants(program, executions, [0])
    letter = dead_letter(
        executions,
        0,
        flow=plan.name,
        flow_version=plan.version_hash,
        source_module=pipeline.source,
        tenant=tenant,
        now=executions.events.column("timestamp")[0],
    )
    return replace(letter, attempts=0)
