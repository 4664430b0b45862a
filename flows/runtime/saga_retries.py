"""Sagas that an operator wants compensated further: found in the state store, and taken up again.

The request is the saga's status (`retrying`), so it survives a restart. A worker looks about once a
second, by an index, and only one whose pipelines have sagas.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from connectors.errors import RetryableError
from flows.plan import PipelinePlan
from flows.runtime.parking import Parking
from flows.runtime.resuming import rebuilt
from flows.runtime.sagas import Sagas
from flows.state.records import Parked, ParkedPlace
from flows.state.saga_store import SagaStore
from flows.state.sagas import Saga
from transforms.executions import Executions

LOOK = 1.0
"""Seconds between looks."""

TOGETHER = 100
"""Sagas taken up at once: each is decoded by itself."""


class SagaRetries:
    """What operators ask of the sagas of one worker's pipelines."""

    def __init__(
        self,
        flow: str,
        source: str,
        pipelines: Sequence[PipelinePlan],
        *,
        parkings: Mapping[str, Parking],
        sagas: Mapping[str, Sagas],
        owns: Callable[[str], bool],
        stored: Callable[[], int],
    ) -> None:
        """`owns` says whose partitions are this worker's; `stored`: the last durable ticket."""
        self._flow = flow
        self._source = source
        self._pipelines = {each.name: each for each in pipelines if each.name in sagas}
        self._parkings = parkings
        self._sagas = sagas
        self._owns = owns
        self._stored = stored
        self._next_look = 0.0
        self._found: dict[str, list[Saga]] = {}

    def waiting(self, store: Callable[[], SagaStore]) -> int:
        """Return how many are to be taken up, as of the last look."""
        if self._sagas and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK
            with suppress(RetryableError):  # the committer says what is wrong, and waits too
                self._look(store())
        return sum(map(len, self._found.values()))

    def unfinished(self) -> bool:
        """Whether any is to be taken up, or on its way, or nobody has looked yet."""
        if not self._sagas:
            return False
        under_way = any(None in sagas.retried.values() for sagas in self._sagas.values())
        return not self._next_look or bool(self._found) or under_way

    def take(self) -> Executions | None:
        """Return executions of one pipeline whose sagas are to be compensated further, or None."""
        for name, found in list(self._found.items()):
            del self._found[name]
            sagas, parking = self._sagas[name], self._parkings[name]
            for saga in found:
                sagas.retried[saga.id] = None
            chosen = [_parked(saga, parking.next_turn()) for saga in found]
            return rebuilt(chosen, self._pipelines[name], self._flow)
        return None

    def _look(self, store: SagaStore) -> None:
        stored = self._stored()
        self._found = {}
        for saga in store.requested(self._flow, self._source, TOGETHER):
            if saga.pipeline not in self._pipelines or not self._owns(saga.partition):
                continue
            ended = self._sagas[saga.pipeline].retried.get(saga.id, 0)
            if ended is None or ended > stored or self._parkings[saga.pipeline].has(saga.id):
                continue  # it is on its way
            if saga.body is not None:
                self._found.setdefault(saga.pipeline, []).append(saga)


def _parked(saga: Saga, turn: int) -> Parked:
    """Return the saga's execution as if it had waited."""
    assert saga.body is not None  # noqa: S101 - the caller looked
    now = time.time()
    return Parked(
        place=ParkedPlace(
            id=saga.id,
            pipeline=saga.pipeline,
            source=saga.source,
            partition=saga.partition,
            lane=saga.lane,
            turn=turn,
            attempts=0,
            due_at=now,
        ),
        step=None,
        parked_at=now,
        event_id=saga.event_id,
        event_type=saga.event_type,
        error_code="",
        error_message="",
        body=saga.body,
    )
