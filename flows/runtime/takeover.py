"""Takes over the transactions of a worker that is gone: what it committed is settled, the rest undone.

Opening the sink under the old worker's name shuts it out, were it still alive, and ends a transaction
that it left open. Then it is certain whether the one whose outcome is prepared was committed.

A shard is taken over by the worker that runs it next. But with another number of workers, or other
topics, partitions belong to other shards, and whoever reads one next need not be who takes the old
shard over. So before it reads, a worker takes over every shard of another *layout* (the flow's version
and the number of workers), and waits for those whose worker is alive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from connectors.batch import Position
from connectors.contracts import Reader, Sink, SinkOpening, TransactionalSink
from connectors.errors import RetryableError
from flows.runtime.committer import Committer
from flows.runtime.halt import Halt
from flows.runtime.sinks import make_sink, renderer
from flows.runtime.transactions import TransactionRun, scope_of
from flows.state.contracts import StateStore
from flows.state.prepared import Prepared
from flows.state.records import Lease

if TYPE_CHECKING:
    from flows.plan import FlowPlan, SourcePlan

log = structlog.get_logger("penstock.worker")


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a worker of one source needs to take transactions over."""

    plan: FlowPlan
    source: SourcePlan
    layout: str
    shards: Collection[str]
    """The shards of all workers of this run."""
    store: StateStore

    def own(self, lease: Lease) -> Sink:
        """Take over the lease's shard and return its sink, open; raises FatalError, RetryableError.

        Call it under the lease, before anything of the source's state is read.
        """
        sink = self._opened(lease.shard)
        try:
            for prepared in self._prepared():
                if prepared.shard == lease.shard:
                    self._resolve(lease, prepared, sink)
            self.store.prepared.enter(lease, self.source.name, self.layout)
        except BaseException:
            sink.close()
            raise
        return sink

    def run(
        self,
        opened: Mapping[str, Sink],
        committer: Committer,
        halt: Halt,
        positions: Mapping[str, Position],
        reader: Reader,
    ) -> TransactionRun:
        """Return the transactions of this worker, through the sink that was taken over."""
        sink = opened[self.source.transactional_sink or ""]
        assert isinstance(sink, TransactionalSink)  # noqa: S101 - checked when the flow was loaded
        known = {partition: at for partition, at in positions.items() if reader.owns(partition)}
        return TransactionRun(sink, committer, halt, layout=self.layout, known=known)

    def others(self, holder: str, ttl: float, wait: Callable[[str], bool]) -> bool:
        """Take over the shards of other layouts; False when asked to stop before.

        `wait` gets the reason, and returns whether to give up. Raises FatalError.
        """
        while True:
            reason = ""
            try:
                for prepared in self._prepared():
                    if prepared.layout != self.layout:
                        reason = self._other(prepared, holder, ttl) or reason
            except RetryableError as error:
                reason = error.message
            if not reason:
                return True
            if wait(reason):
                return False

    def _other(self, found: Prepared, holder: str, ttl: float) -> str:
        """Take one over; return why not."""
        store, flow = self.store, self.plan.name
        lease = store.acquire_lease(flow, found.shard, holder, ttl)
        if lease is None:
            return f"a worker of another run, or of other settings, still has {found.shard}"
        try:
            # Read under the lease: another worker of this run may have been first.
            for prepared in self._prepared():
                if prepared.shard != found.shard or prepared.layout == self.layout:
                    continue
                if prepared.name:
                    sink = self._opened(found.shard)
                    try:
                        self._resolve(lease, prepared, sink)
                    finally:
                        sink.close()
                if found.shard in self.shards:
                    store.prepared.enter(lease, self.source.name, self.layout)
                else:
                    store.prepared.leave(lease)
        finally:
            store.release_lease(lease)
        return ""

    def _prepared(self) -> list[Prepared]:
        return self.store.prepared.of_source(self.plan.name, self.source.name)

    def _opened(self, shard: str) -> Sink:
        name = self.source.transactional_sink
        assert name is not None  # noqa: S101 - only sources of such pipelines come here
        sink = make_sink(self.plan.sink(name))
        scope = scope_of(self.plan, self.source, shard)
        sink.open(SinkOpening(state={}, transaction=scope, compile_template=renderer))
        return sink

    def _resolve(self, lease: Lease, prepared: Prepared, sink: Sink) -> None:
        """Settle what is prepared if its transaction was committed."""
        assert isinstance(sink, TransactionalSink)  # noqa: S101 - checked when the flow was loaded
        if not prepared.name:
            return
        happened = prepared.name in sink.committed(prepared.positions)
        log.info("took over a transaction", shard=prepared.shard, committed=happened)
        if happened:
            self.store.commit(
                lease,
                prepared.source,
                prepared.settlements(),
                prepared.positions,
                {},
                prepared=prepared.name,
            )


def takeover_of(
    plan: FlowPlan, source: SourcePlan, workers: int, shards: Collection[str], store: StateStore
) -> Takeover | None:
    """Return what takes over for a worker of `workers`; None for a source without transactions."""
    if source.transactional_sink is None:
        return None
    return Takeover(plan, source, f"{plan.version_hash}/{workers}", shards, store)
