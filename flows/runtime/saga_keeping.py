"""Where a worker's sagas keep their progress: the state store, written under the worker's lease."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flows.runtime.halt import Halt
from flows.runtime.sagas import Sagas
from flows.state.records import Lease
from flows.state.saga_store import SagaStore
from flows.state.sagas import Saga
from flows.state.store import open_store

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan


class StoredSagas:
    """A `SagaKeeper` on the state store."""

    def __init__(self, store: SagaStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease

    def save(self, sagas: Sequence[Saga]) -> None:
        """Store progress in one transaction. Raises FatalError `lease_lost`, RetryableError."""
        self._store.save(self._lease, sagas)

    def load(self, pipeline: str, ids: Sequence[str]) -> list[Saga]:
        """Return the sagas with these ids, those that there are."""
        return self._store.load(self._lease.flow, pipeline, ids)


def open_sagas(
    plan: FlowPlan, source: SourcePlan, lease: Lease, halt: Halt, opened: ExitStack
) -> dict[str, Sagas]:
    """Return pipeline → its sagas, of those pipelines that have them; `opened` closes the store."""
    pipelines = [pipeline for pipeline in source.pipelines if pipeline.saga is not None]
    if not pipelines:
        return {}
    store = open_store(plan.state_url)
    opened.callback(store.close)
    unfinished = store.sagas.unfinished(plan.name, source.name)
    keeper = StoredSagas(store.sagas, lease)
    return {
        each.name: Sagas(each, keeper, halt, unfinished=unfinished.get(each.name, ()))
        for each in pipelines
    }
