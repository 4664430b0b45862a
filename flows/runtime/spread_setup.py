"""Sets up, at a worker's start, what waits of pipelines that `partition_by` spreads over a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from connectors.errors import RetryableError
from flows.runtime.parking import Parking
from flows.runtime.resuming import Resumer
from flows.runtime.spread import DueHere, Share, WaitingElsewhere
from flows.state.leases import lease_lost
from flows.state.store import reopen_store
from transforms.expressions import compile_jq

if TYPE_CHECKING:
    from flows.plan import FlowPlan, PipelinePlan, SourcePlan
    from flows.runtime.build import Cluster
    from flows.runtime.committer import Committer
    from flows.runtime.halt import Halt
    from flows.state.contracts import StateStore
    from flows.state.records import Lease, ParkedPlace


def shut_out(
    source: SourcePlan,
    store: StateStore,
    lease: Lease,
    *,
    holder: str,
    ttl: float,
    wait: Callable[[str], bool],
) -> bool:
    """Wait for the workers of all other shards, and shut them out; False when asked to stop before.

    For the first worker of a source, which holds `lease`, before anybody reads what is parked. Another
    number of workers, or another `partition_by`, shares out anew what waits: a worker of a former run
    that is still there would go on with what is another's now. The run's own workers take their
    leases after this. `holder`: of those. `wait` gets the reason, and returns whether to give up.
    Raises FatalError `lease_lost`.
    """
    is_spread = any(pipeline.partition_by for pipeline in source.pipelines)
    if not is_spread and not store.marks.of(lease.flow, source.name):
        return True
    done: set[str] = {lease.shard}
    while True:
        try:
            reason = ""
            for shard in store.shards(lease.flow, source.name):
                if shard not in done:
                    other = store.acquire_lease(lease.flow, shard, holder, ttl)
                    if other is None:
                        reason = f"another run's worker still has the lease of {shard}"
                        break
                    store.release_lease(other)
                    done.add(shard)
            if not reason:
                return True
            if not store.renew_lease(lease, ttl):
                raise lease_lost(lease)
        except RetryableError as error:
            reason = f"state store: {error.message}"
        if wait(reason):
            return False


@dataclass(frozen=True, slots=True)
class SpreadParkings:
    """What waits in this process of a source's spread pipelines; nothing outside of a cluster."""

    plan: FlowPlan
    pipelines: Sequence[PipelinePlan]
    """Those that are spread."""
    parkings: dict[str, Parking]
    any_left: bool
    """Whether anything waited of them at the start, in whatever process."""

    def due(self, committer: Committer, halt: Halt, opened: ExitStack) -> dict[str, DueHere]:
        """Return pipeline → what is due of it here; `opened` closes their stores."""
        found = {}
        for pipeline in self.pipelines:
            own = {pipeline.name: self.parkings[pipeline.name]}
            open_them = partial(reopen_store, self.plan.state_url)
            resumer = Resumer(self.plan.name, [pipeline], own, committer, open_them)
            opened.callback(resumer.close)
            found[pipeline.name] = DueHere(resumer, halt)
        return found

    def elsewhere(
        self, source: str, committer: Committer, opened: ExitStack, *, readers: int
    ) -> WaitingElsewhere | None:
        """Return what one of so many `readers` knows of what waits in all processes.

        None where nothing may wait: no pipeline parks, and nothing is left of one that did.
        `opened` closes its store.
        """
        if not self.any_left and not any(each.parks for each in self.pipelines):
            return None
        found = WaitingElsewhere(
            self.plan.name,
            source,
            {each.name: each.max_parked for each in self.pipelines},
            readers=readers,
            committer=committer,
            open_store=partial(reopen_store, self.plan.state_url),
        )
        opened.callback(found.close)
        return found


def spread_parkings(
    plan: FlowPlan,
    source: SourcePlan,
    store: StateStore,
    places: Collection[ParkedPlace],
    at: Cluster,
) -> SpreadParkings:
    """Return what waits in a process of a cluster; one of no processes is none.

    Raises FatalError, RetryableError.
    """
    pipelines = [each for each in source.pipelines if at.of and each.partition_by]
    last_turn = store.last_turn(plan.name) if pipelines else 0
    found = {each.name: Parking(last_turn) for each in pipelines}
    for pipeline in pipelines:
        share = Share(compile_jq(pipeline.partition_by or "."), at.process, at.of)
        own = [place for place in places if place.pipeline == pipeline.name]
        read = partial(store.parked, plan.name, pipeline.name)
        for place in share.of_places(own, read):
            found[pipeline.name].take_over(place)
    any_left = any(place.pipeline in found for place in places)
    return SpreadParkings(plan, pipelines, found, any_left)
