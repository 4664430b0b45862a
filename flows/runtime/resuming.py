"""Parked executions on their way back: read from the state store when they are due, and made whole.

The intake asks here before it asks its reader. What is resumed is a batch of one pipeline, the
outputs so far in place, each execution about to jump to the step it waits for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from connectors.batch import Batch, Column
from connectors.errors import PenstockError, PermanentError
from flows.plan import PipelinePlan
from flows.runtime.committer import Committer
from flows.runtime.exchange import CARRIED
from flows.runtime.parking import Parking
from flows.state.contracts import StateStore
from flows.state.history import decode_chunk
from flows.state.records import Parked, ReplayLink
from transforms.executions import UNSET, Ended, Executions

if TYPE_CHECKING:
    from flows.runtime.saga_retries import SagaRetries
    from flows.runtime.signals import Signalling
    from flows.state.saga_store import SagaStore

TOGETHER = 500
"""Executions resumed in one batch: each is decoded by itself, and new events wait meanwhile."""


class Resumer:
    """The parked executions of one worker's pipelines."""

    def __init__(
        self,
        flow: str,
        pipelines: Sequence[PipelinePlan],
        parkings: Mapping[str, Parking],
        committer: Committer,
        open_store: Callable[[], StateStore],
        *,
        retries: SagaRetries | None = None,
        signals: Signalling | None = None,
    ) -> None:
        """`open_store` is called once, when something is due for the first time.

        `retries`: what operators ask of sagas, where a pipeline has any; `signals`: of executions.
        """
        self._flow = flow
        self._pipelines = {pipeline.name: pipeline for pipeline in pipelines}
        self._parkings = parkings
        self._committer = committer
        self._open_store = open_store
        self._retries = retries
        self._signals = signals
        self._store: StateStore | None = None

    def waiting(self) -> int:
        """Return how many executions are parked, or are to be compensated further."""
        asked = 0 if self._retries is None else self._retries.waiting(self._opened_sagas)
        return asked + sum(map(len, self._parkings.values()))

    def unfinished(self) -> bool:
        """Whether any of them goes on without somebody who resumes it."""
        waiting = self.waiting()
        return waiting > 0 and waiting > sum(each.held() for each in self._parkings.values())

    def retrying(self) -> bool:
        """Whether sagas are to be compensated further that are not yet."""
        return self._retries is not None and self._retries.unfinished()

    def full(self) -> str:
        """Return why no new event may be read just now; "" when it may."""
        for name, parking in self._parkings.items():
            most = self._pipelines[name].max_parked
            if len(parking) >= most:
                return f"pipeline {name}: {len(parking):,} executions wait (max_parked: {most:,})"
        return ""

    def take(self) -> Executions | None:
        """Return what is due of one pipeline, or None. Raises RetryableError, FatalError (state)."""
        retried = None if self._retries is None else self._retries.take()
        if retried is not None:
            return retried
        now, stored = time.time(), self._committer.stored
        pulled = None if self._signals is None else self._signals.pulled(stored)
        if pulled is not None:
            name, ids = pulled
            return self._resumed(self._pipelines[name], self._parkings[name], ids)
        for name, parking in self._parkings.items():
            if not len(parking):
                continue
            ids = parking.due(now, stored, TOGETHER)
            if ids:
                return self._resumed(self._pipelines[name], parking, ids)
        return None

    def _resumed(
        self, pipeline: PipelinePlan, parking: Parking, ids: list[str]
    ) -> Executions | None:
        try:
            found = {
                parked.place.id: parked
                for parked in self._opened().parked(self._flow, pipeline.name, ids)
            }
        except PenstockError:
            parking.put_back(ids)
            if self._signals is not None:
                self._signals.put_back(pipeline.name, ids)
            raise
        for each in ids:
            if each not in found:
                parking.ended(each)  # an operator has taken it out
                if self._signals is not None:
                    self._signals.gone(pipeline.name, each)
        chosen = [found[each] for each in ids if each in found]
        if not chosen:
            return None
        executions = rebuilt(chosen, pipeline, self._flow)
        if self._signals is not None:
            self._signals.apply(executions, pipeline)
        return executions

    def _opened(self) -> StateStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _opened_sagas(self) -> SagaStore:
        return self._opened().sagas

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()


def rebuilt(chosen: Sequence[Parked], pipeline: PipelinePlan, flow: str) -> Executions:
    """Return the executions as they were when they were parked, as one batch."""
    size = len(chosen)
    parts = [decode_chunk(parked.body).executions for parked in chosen]
    columns: dict[str, Column] = {
        name: [part.events.column(name)[0] for part in parts] for name in CARRIED
    }
    columns["wire"] = [None] * size
    if pipeline.dead_letter.sink is not None:
        columns["arrival"] = [part.events.column("arrival")[0] for part in parts]
    now = time.time()
    executions = Executions(
        events=Batch(size, columns, after={}),
        pipeline=pipeline.name,
        started=now,
        base_meta={
            "flow": flow,
            "pipeline": pipeline.name,
            "started_at": datetime.fromtimestamp(now, timezone.utc).isoformat(),
        },
        lanes=[parked.place.lane for parked in chosen],
        resumed=dict(enumerate(chosen)),
    )
    for index, parked in enumerate(chosen):
        if parked.started_at is not None:
            executions.starts[index] = parked.started_at
        run = parts[index].runs.get(0)
        if run is not None:
            executions.runs[index] = run
        if parked.place.replay is not None and parked.letter is not None:
            link = ReplayLink(parked.place.replay, parked.letter)
            executions.replays[index] = link
            executions.runs[index] = link.run_of(executions.first_id(index))
    if any(part.keys is not None for part in parts):
        executions.keys = [None if part.keys is None else part.keys[0] for part in parts]
    for name in dict.fromkeys(name for part in parts for name in part.outputs):
        executions.outputs[name] = [
            part.outputs[name][0] if name in part.outputs else UNSET for part in parts
        ]
    for name in dict.fromkeys(name for part in parts for name in part.details):
        executions.details[name] = [
            part.details[name][0] if name in part.details else None for part in parts
        ]
    for index, part in enumerate(parts):
        if part.took or part.took_before:
            executions.took_before[index] = part.took_before.get(0, {}) | part.took
        for step, passed in part.passed_over.items():
            if 0 in passed:
                executions.passed_over.setdefault(step, {})[index] = passed[0]
    _send_on(executions, chosen, pipeline)
    return executions


def _send_on(executions: Executions, chosen: Sequence[Parked], pipeline: PipelinePlan) -> None:
    """Let each jump to its step; one whose step the flow no longer has fails."""
    numbers = {place: number for number, place in enumerate(pipeline.places)}
    for index, parked in enumerate(chosen):
        if parked.step is None:
            continue
        number = numbers.get(parked.step)
        if number is None:
            executions.end(index, Ended("failed", parked.step, step_gone(parked.step, pipeline)))
        elif number:
            executions.jumps[index] = number


def step_gone(step: str, pipeline: PipelinePlan) -> PermanentError:
    """Return the error of an execution that was to go on at a step the flow no longer has."""
    return PermanentError(
        f"the execution waited for step {step}, which pipeline {pipeline.name} no longer has.",
        code="step_gone",
        hint="The flow was changed while it waited: replay it through the flow as it is now.",
    )
