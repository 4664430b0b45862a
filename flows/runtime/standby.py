"""From standby to holder: a worker waits until its shard is free, takes it, and reads what is stored of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog

from connectors.batch import Position
from connectors.contracts import Sink
from connectors.errors import RetryableError
from flows.history.plans import flow_document
from flows.plan import FlowPlan, SourcePlan
from flows.runtime.abandoned import undo_abandoned
from flows.runtime.build import Cluster
from flows.runtime.committer import LEASE_TTL
from flows.runtime.copying import writers_of
from flows.runtime.exchange import Marks
from flows.runtime.halt import Halt
from flows.runtime.orders import WorkerOrder
from flows.runtime.parking import Parking
from flows.runtime.reporter import Reporter
from flows.runtime.settled_before import (
    SettledBefore,
    marks_of,
    partitions_formerly,
    settled_before,
)
from flows.runtime.signal_inbox import SignalInbox
from flows.runtime.spread_setup import SpreadParkings, shut_out, spread_parkings
from flows.runtime.takeover import Takeover, takeover_of
from flows.state.backfills import is_job
from flows.state.contracts import StateStore
from flows.state.records import Lease, ParkedPlace
from flows.state.store import open_store

log = structlog.get_logger("penstock.worker")


@dataclass(frozen=True, slots=True)
class Holding:
    """A shard that is ours, and what the state store has of it."""

    lease: Lease
    is_first: bool
    """Whether it is the source's first worker, which does what is done once per source."""
    positions: Mapping[str, Position]
    """Source partition → position after the last settled event."""
    marks: Mapping[str, Marks]
    """Pipeline → how far this process has settled its share, in a cluster."""
    is_marked: bool
    """Whether any process of a cluster has stored marks."""
    before_crash: Mapping[str, SettledBefore]
    """Pipeline → what a cluster had settled before a crash, and comes again."""
    parkings: Mapping[str, Parking]
    """Pipeline → what waits of it here: nothing yet; but for those that are spread over a cluster."""
    places: Sequence[ParkedPlace]
    """What waits of the source."""
    spread: SpreadParkings
    sink_states: Mapping[str, Mapping[str, str]]
    signals: SignalInbox
    takeover: Takeover | None
    transactional: Mapping[str, Sink]
    """The sink that takes part in transactions, by its name: open already."""


def take_over(
    order: WorkerOrder,
    plan: FlowPlan,
    halt: Halt,
    reporter: Reporter,
    opened: ExitStack,
    *,
    as_job: bool,
) -> Holding | None:
    """Wait until the shard is ours, and read what is stored of it; None when asked to stop before.

    `as_job`: for a backfill. `opened` closes what is open by then. Raises PenstockError.
    """
    source = plan.source(order.source)
    holder = f"{order.holder}/{order.shard}"
    with closing(open_store(plan.state_url)) as store:
        takeover = takeover_of(plan, source, order.of, order.shards or [order.shard], store)
        wait = _standing_by(order, plan, store, halt, reporter)
        # Before files are cut back: what a transaction of theirs says was not undone is settled.
        if takeover and not takeover.others(holder, LEASE_TTL, wait):
            return None
        if not _undo_abandoned(order, plan, store, wait):
            return None
        lease = _take_lease(order, plan, store, halt, reporter)
        if lease is None:
            return None
        is_first = order.index == 0 and order.process == 0
        if is_first:
            if not shut_out(source, store, lease, holder=order.holder, ttl=LEASE_TTL, wait=wait):
                return None
            passed = store.checkpoints(plan.name, source.name)
            store.marks.forget_passed(lease, source.name, passed)
        transactional: dict[str, Sink] = {}
        if takeover and source.transactional_sink:
            sink = transactional[source.transactional_sink] = takeover.own(lease)
            opened.callback(sink.close)
            # Again, since ours is known now: of two layouts that begin at once, one sees the other.
            if not takeover.others(holder, LEASE_TTL, wait):
                return None
        store.chunks.save_version(plan.name, plan.version_hash, flow_document(plan), time.time())
        if is_first and not order.only_replays and not as_job:
            archived = source.archive is not None
            store.archive.run_with(plan.name, source.name, archived=archived, now=time.time())
        positions = store.checkpoints(plan.name, source.name)
        at = Cluster(order.process, len(order.addresses))
        marked = store.marks.of(plan.name, source.name)
        formerly = partitions_formerly(store, plan.name)
        places = store.parked_places(plan.name, source.name)
        return Holding(
            lease=lease,
            is_first=is_first,
            positions=positions,
            marks=marks_of(source, marked, at, positions),
            is_marked=bool(marked),
            before_crash=settled_before(source, marked, at, positions, formerly),
            parkings=_parkings(order, source, store.last_turn(plan.name)),
            places=places,
            spread=spread_parkings(plan, source, store, places, at),
            sink_states=store.sink_states(plan.name, lease.shard),
            signals=SignalInbox(plan.name, source.name, store.signals.open(plan.name, source.name)),
            takeover=takeover,
            transactional=transactional,
        )


def _parkings(order: WorkerOrder, source: SourcePlan, last_turn: int) -> dict[str, Parking]:
    """Return a parking, empty yet, for each pipeline but those that are spread over a cluster."""
    return {
        pipeline.name: Parking(last_turn, one_by_one=pipeline.saga is not None)
        for pipeline in source.pipelines
        if not (order.addresses and pipeline.partition_by)
    }


def _standing_by(
    order: WorkerOrder, plan: FlowPlan, store: StateStore, halt: Halt, reporter: Reporter
) -> Callable[[str], bool]:
    """Return what waits a moment for a reason, and says whether to stop instead."""
    outlive = outliving(order, plan, halt, reporter)

    def wait(reason: str) -> bool:
        over = order.only_replays and not _is_asked(order, plan, store)
        return outlive(reason) or over

    return wait


def outliving(
    order: WorkerOrder, plan: FlowPlan, halt: Halt, reporter: Reporter
) -> Callable[[str], bool]:
    """Return what waits a moment for another worker's end, and says whether to stop instead."""
    told = ""

    def wait(reason: str) -> bool:
        nonlocal told
        if reason != told:
            log.info("standby: waiting", reason=reason, flow=plan.name, shard=order.shard)
            told = reason
        reporter.state = "standby"
        reporter.status = f"{reason.removesuffix('.')}; waiting to take over"
        return halt.wait(LEASE_TTL / 10)

    return wait


def _undo_abandoned(
    order: WorkerOrder, plan: FlowPlan, store: StateStore, wait: Callable[[str], bool]
) -> bool:
    """Undo what workers left that this run has none for; False when asked to stop before."""
    return undo_abandoned(
        plan,
        store,
        {*_known_shards(order, store.sink_writers(plan.name)), *writers_of(plan)},
        holder=f"{order.holder}/{order.shard}",
        ttl=LEASE_TTL,
        wait=wait,
    )


def _known_shards(order: WorkerOrder, writers: Collection[str]) -> Collection[str]:
    """Return the shards that are not abandoned: the run's, and other sources' of a replay in place.

    A job goes on with what it has left itself, and looks after nobody else.
    """
    shards = order.shards or [order.shard]
    if is_job(order.source):
        return [*shards, *writers]
    if not order.only_replays:
        return [*shards, *filter(is_job, writers)]
    return {*shards, *(each for each in writers if each.rpartition("/")[0] != order.source)}


def _is_asked(order: WorkerOrder, plan: FlowPlan, store: StateStore) -> bool:
    """Whether replays, sagas or signals of this source wait for a worker."""
    return (
        store.replays.has_open(plan.name, order.source)
        or bool(store.sagas.requested(plan.name, order.source, 1))
        or any(each.source for each in store.signals.open(plan.name, order.source))
    )


def _take_lease(
    order: WorkerOrder, plan: FlowPlan, store: StateStore, halt: Halt, reporter: Reporter
) -> Lease | None:
    """Wait as a standby until the shard is ours; None when asked to stop before."""
    while True:
        try:
            lease = store.acquire_lease(plan.name, order.shard, order.holder, LEASE_TTL)
        except RetryableError as error:
            # A standby outlives a restart of the state store, as the worker that it stands by does.
            log.warning("waiting for the state store", flow=plan.name, error=error.message)
            reporter.status = f"state store: {error.message}"
            if halt.wait(LEASE_TTL / 10):
                return None
            continue
        if lease is not None:
            reporter.status = ""
            return lease
        if reporter.state != "standby":
            log.info("standby: another worker runs this", flow=plan.name, shard=order.shard)
            reporter.state = "standby"
        if order.only_replays and not _is_asked(order, plan, store):
            return None  # the other worker has run them
        reporter.status = "another worker runs this; waiting to take over"
        if halt.wait(LEASE_TTL / 10):
            return None
