"""Events of an outbox that their sink refuses for good, as dead letters of their pipeline and step.

    refused ──► letter stored (and its copy for a sink) ──► row deleted

A crash between the two finds the row again, and its sink refuses it again; the letter is there then, under
the same id, and stays as it is. The execution itself is done: a replay publishes the event and does
nothing else of it (`DeadLetter.begins_at`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from connectors.errors import PenstockError
from flows.runtime.settle import stopped_at
from flows.runtime.tenants import tenants
from flows.state.contracts import StateStore
from flows.state.copies import letter_copy
from flows.state.copy_store import copy_row
from flows.state.history import decode_chunk
from flows.state.letters import dead_letter
from flows.state.records import DeadLetter
from flows.state.rows import Row
from flows.state.tries import NONE, with_try
from transforms.executions import Ended, Executions
from transforms.expressions import Program, compile_jq

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that its sink will never take."""

    pipeline: str
    step: str
    origin: bytes
    error: PenstockError


@dataclass(frozen=True, slots=True)
class _Of:
    """What a pipeline's letters are made with."""

    source: str
    plan: PipelinePlan | None
    """None of one that the flow no longer has."""
    tenant: Program | None


class OutboxLetters:
    """Keeps refused events of one worker's outboxes; belongs to one relay's thread."""

    def __init__(
        self, plan: FlowPlan, source: str, shard: str, open_store: Callable[[], StateStore]
    ) -> None:
        """`source` and `shard` are the worker's."""
        self._plan = plan
        self._source = source
        self._shard = shard
        self._open_store = open_store
        self._store: StateStore | None = None
        self._known: dict[str, _Of] = {}

    def keep(self, refused: Sequence[Refused]) -> None:
        """Store the dead letters, in one transaction; return when they are durable.

        Raises RetryableError and FatalError of the state store, and FatalError `dead_letter_disabled`
        for a pipeline that has no dead letters: then nothing is stored.
        """
        now = time.time()
        letters: list[DeadLetter] = []
        copies: dict[str, Row] = {}
        for each in refused:
            of = self._of(each.pipeline)
            executions = decode_chunk(each.origin).executions
            letter = self._letter(each, executions, of, now)
            if of.plan is not None and not of.plan.dead_letter.enabled:
                raise stopped_at(letter)
            letters.append(letter)
            if of.plan is not None and of.plan.dead_letter.sink is not None:
                arrival = executions.events.column("arrival")[0]
                copy = letter_copy(letter, arrival, acting="step.publish", error=each.error)
                copies[letter.id] = copy_row(self._plan.name, self._shard, copy)
        if self._store is None:
            self._store = self._open_store()
        self._store.letters.keep(letters, copies)

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def _of(self, name: str) -> _Of:
        if name not in self._known:
            found = _Of(self._source, None, None)
            for source in self._plan.sources:
                for each in source.pipelines:
                    if each.name == name:
                        tenant = compile_jq(each.tenant) if each.tenant else None
                        found = _Of(source.name, each, tenant)
            self._known[name] = found
        return self._known[name]

    def _letter(self, refused: Refused, executions: Executions, of: _Of, now: float) -> DeadLetter:
        # Two events of one execution are two letters.
        run = executions.runs.get(0)
        executions.runs[0] = "/".join(filter(None, [run, "outbox", refused.step]))
        executions.end(0, Ended("failed", refused.step, refused.error))
        (tenant,) = tenants(of.tenant, executions, [0])
        letter = dead_letter(
            executions,
            0,
            flow=self._plan.name,
            flow_version=self._plan.version_hash,
            source_module=of.source,
            tenant=tenant,
            now=now,
            redact=self._plan.redact,
        )
        tries = with_try(
            NONE,
            at=now,
            step=letter.step,
            code=letter.error_code,
            message=letter.error_message,
        )
        return replace(letter, tries=tries, begins_at=refused.step)
