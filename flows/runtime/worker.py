"""A worker: one process that runs one shard of one source through its pipelines.

Started by the supervisor as `python -m flows.runtime.process ORDER`, ORDER being a WorkerOrder in
JSON. Reports go to the pipe it names, log lines to stderr, the outcome into the exit code.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import orjson
import structlog
from bytewax._bytewax import cluster_main, run_main

from connectors.batch import Position
from connectors.contracts import Lag, Opening, Reader, Shard, Sink
from connectors.errors import FatalError, FlowFileError, PenstockError, RetryableError
from flows.history.plans import flow_document
from flows.plan import FlowPlan, SourcePlan, load_flow
from flows.runtime import exits
from flows.runtime.abandoned import undo_abandoned
from flows.runtime.assemble import (
    assemble_branches,
    open_sinks,
    open_sinks_when_free,
    open_source,
)
from flows.runtime.branch import Branch
from flows.runtime.build import Cluster, build_dataflow
from flows.runtime.committer import LEASE_TTL, Committer
from flows.runtime.copying import LetterCopying, writers_of
from flows.runtime.copying_setup import open_copying
from flows.runtime.depths import DeadLetterDepths
from flows.runtime.draining import GRACE, Drain
from flows.runtime.halt import Halt
from flows.runtime.intake import Intake
from flows.runtime.jobs import Job
from flows.runtime.key_keeping import open_keys, teller
from flows.runtime.logs import set_up_logging
from flows.runtime.orders import WorkerOrder
from flows.runtime.outboxes import open_outboxes
from flows.runtime.parking import Parking
from flows.runtime.replay_inbox import ReplayInbox
from flows.runtime.replaying import Replaying
from flows.runtime.reporter import Reporter
from flows.runtime.resuming import Resumer
from flows.runtime.retention import archived_at_most, pruner, recorded_at_most
from flows.runtime.saga_keeping import open_sagas
from flows.runtime.saga_retries import SagaRetries
from flows.runtime.settled_before import marks_of, partitions_formerly, settled_before
from flows.runtime.signal_inbox import SignalInbox
from flows.runtime.signals import Signalling
from flows.runtime.sinks import key_maker, renderer, value_renderer
from flows.runtime.snapshot_requests import ask_for_snapshots
from flows.runtime.spread_setup import shut_out, spread_parkings
from flows.runtime.takeover import takeover_of
from flows.runtime.transactions import scope_of
from flows.runtime.tuning import die_with_supervisor, spare_the_collector, tune_memory
from flows.runtime.unread import Unread
from flows.runtime.watched import is_watched
from flows.state.backfills import is_job
from flows.state.contracts import StateStore
from flows.state.records import Lease
from flows.state.store import open_store, reopen_store

log = structlog.get_logger("penstock.worker")


def run_worker(
    order: WorkerOrder,
    plan: FlowPlan,
    halt: Halt,
    reporter: Reporter,
    *,
    job: Job | None = None,
    drain: Drain | None = None,
) -> None:
    """Run the shard until it ends, is asked to stop or fails; the reason is in `halt`.

    `job`: what is run instead of the live source; `drain`: what limits a stop, where anything does. Raises
    PenstockError for what fails before the dataflow runs.
    """
    drain = drain or Drain(halt, reporter)
    source_plan = plan.source(order.source)
    with ExitStack() as opened:
        store = open_store(plan.state_url)
        before: dict[str, Sink] = {}
        takeover = takeover_of(plan, source_plan, order.of, order.shards or [order.shard], store)
        wait = _standing_by(order, plan, store, halt, reporter)
        try:
            # Before files are cut back: what a transaction of theirs says was not undone is settled.
            if takeover and not takeover.others(f"{order.holder}/{order.shard}", LEASE_TTL, wait):
                return
            if not _undo_abandoned(order, plan, store, wait):
                return
            lease = _take_lease(order, plan, store, halt, reporter)
            if lease is None:
                return
            is_first = order.index == 0 and order.process == 0
            if is_first:
                if not shut_out(
                    source_plan, store, lease, holder=order.holder, ttl=LEASE_TTL, wait=wait
                ):
                    return
                passed = store.checkpoints(plan.name, source_plan.name)
                store.marks.forget_passed(lease, source_plan.name, passed)
            if takeover and source_plan.transactional_sink:
                sink = takeover.own(lease)
                opened.callback(sink.close)
                before[source_plan.transactional_sink] = sink
                # Again, since ours is known now: of two layouts that begin at once, one sees the other.
                if not takeover.others(f"{order.holder}/{order.shard}", LEASE_TTL, wait):
                    return
            store.chunks.save_version(
                plan.name, plan.version_hash, flow_document(plan), time.time()
            )
            if is_first and not order.only_replays and job is None:
                archived = source_plan.archive is not None
                store.archive.run_with(
                    plan.name, source_plan.name, archived=archived, now=time.time()
                )
            positions = store.checkpoints(plan.name, source_plan.name)
            at = Cluster(order.process, len(order.addresses))
            marked = store.marks.of(plan.name, source_plan.name)
            marks = marks_of(source_plan, marked, at, positions)
            formerly = partitions_formerly(store, plan.name)
            before_crash = settled_before(source_plan, marked, at, positions, formerly)
            parkings = _parkings(order, plan, store.last_turn(plan.name))
            places = store.parked_places(plan.name, source_plan.name)
            spread = spread_parkings(plan, source_plan, store, places, at)
            sink_states = store.sink_states(plan.name, lease.shard)
            signals = SignalInbox(
                plan.name, source_plan.name, store.signals.open(plan.name, source_plan.name)
            )
        finally:
            store.close()
        reader: Reader | None = None

        def lags() -> Mapping[str, Lag]:
            return reader.lag() if reader is not None else {}

        keys = open_keys(plan, source_plan, halt, opened)
        # The first worker counts for all: dead letters are the pipeline's, whoever made them.
        first = is_first and job is None
        depths = DeadLetterDepths(plan, source_plan.pipelines if first else ())
        committer = Committer(
            lambda: reopen_store(plan.state_url),
            lease,
            source_plan.name,
            halt,
            lags=lags,
            prune=pruner(plan),
            prune_after=recorded_at_most(plan),
            archive_prune_after=archived_at_most(source_plan),
            tell=teller(keys),
            look=depths.look,
            marks=marks.values(),
            begins=positions if marked or marks else None,
            in_transactions=source_plan.transactional_sink is not None,
        )
        committer.start()
        opened.callback(committer.close)
        drain.stores_by(partial(committer.close, GRACE))
        sinks = open_sinks_when_free(
            lambda opened: open_sinks(
                plan, source_plan, sink_states, order.writers, opened, before=before
            ),
            lease,
            opened,
            _outliving(order, plan, halt, reporter),
        )
        if sinks is None:
            return
        reporter.status = ""
        _announce(plan, lease, sinks, sink_states)
        outboxes = open_outboxes(
            plan,
            source_plan,
            halt,
            opened,
            shard=order.shard,
            open_store=lambda: reopen_store(plan.state_url),
            counts=first,
        )
        copying: list[LetterCopying] = []
        if first and not order.only_replays:
            copying = open_copying(
                plan,
                source_plan,
                holder=f"{order.holder}/{order.shard}",
                open_store=lambda: reopen_store(plan.state_url),
                halt=halt,
                patient=order.until_caught_up,
                opened=opened,
            )
        signalling: Signalling | None = None
        if order.reads:
            # The reader is opened later: nothing is asked of `owns` before.
            signalling = Signalling(
                signals,
                parkings,
                committer,
                lambda part: reader is not None and _owns(order, reader, part),
                spread=spread.parkings,
            )
        sagas = open_sagas(plan, source_plan, lease, halt, opened)
        branches = assemble_branches(
            plan,
            source_plan,
            sinks,
            committer=committer if job is None else job.outcomes(committer),
            halt=halt,
            opened=opened,
            marks=marks,
            parkings={**parkings, **spread.parkings},
            sagas=sagas,
            keys=keys,
            relay=outboxes.waker,
            signals=signalling,
            due=spread.due(committer, halt, opened),
            happenings=reporter.happenings if job is None else None,
        )
        for branch in branches:
            branch.ingest.settled_before = before_crash.get(branch.name)
            if job is not None:
                branch.ingest.run = job.run
        intake: Intake | None = None
        if order.reads:
            if job is None:
                reader = _open_reader(order, plan, positions)
            else:
                reader = job.open_reader(positions, halt)
            opened.callback(reader.close)
            for place in places:
                if place.pipeline in parkings and _owns(order, reader, place.partition):
                    parkings[place.pipeline].take_over(place)
            inbox = _inbox(
                order,
                plan,
                parkings,
                reader=reader,
                lease=lease,
                committer=committer,
                halt=halt,
                also=signals.look,
            )
            inbox.start()
            opened.callback(inbox.close)
            ask_for_snapshots(plan, order.source, reader, halt, opened)
            shares_thread = bool(order.addresses) and order.of > 1
            resumer = Resumer(
                plan.name,
                source_plan.pipelines,
                parkings,
                committer,
                lambda: reopen_store(plan.state_url),
                retries=SagaRetries(
                    plan.name,
                    source_plan.name,
                    source_plan.pipelines,
                    parkings=parkings,
                    sagas=sagas,
                    owns=partial(_owns, order, reader),
                    stored=lambda: committer.stored,
                )
                if sagas
                else None,
                signals=signalling,
            )
            opened.callback(resumer.close)
            transactions = None
            if takeover is not None:
                transactions = takeover.run(before, committer, halt, positions, reader)
            intake = Intake(
                reader,
                committer,
                halt,
                resumer=resumer,
                replaying=Replaying(source_plan.pipelines, branches, parkings, committer, inbox),
                # Without a source there is nothing but what was asked for: with that it is at its end.
                only_replays=order.only_replays
                or (order.until_caught_up and not source_plan.is_module),
                transactions=transactions,
                signals=signalling,
                elsewhere=spread.elsewhere(order.source, committer, opened, readers=order.of),
                shares_thread=shares_thread,
                archives=_archives(source_plan),
            )
            drain.lets_go_by(partial(_let_go, intake, reader))
        outboxes.start()
        reporter.watch(
            order.source,
            reader,
            intake,
            committer,
            branches,
            depths=depths,
            outboxes=outboxes,
            copying=copying,
        )
        log.info("worker started", source=source_plan.name, shard=order.shard)
        spare_the_collector()
        try:
            _run_dataflow(order, intake, branches)
        except BaseException:  # Bytewax turns what an operator raises into an error of its own
            if not halt.error:
                raise
        drain.begin_to_end()
        _finish(intake, committer, halt)
        drain.is_stored()
        outboxes.drain()


def _archives(source: SourcePlan) -> Literal["", "events", "messages"]:
    """Return what is archived of a source: the messages too, where copies of dead letters are made of them."""
    if source.archive is None:
        return ""
    copied = any(pipeline.dead_letter.sink is not None for pipeline in source.pipelines)
    return "messages" if copied else "events"


def _open_reader(order: WorkerOrder, plan: FlowPlan, positions: Mapping[str, Position]) -> Reader:
    source = plan.source(order.source)
    if order.only_replays or (order.until_caught_up and not source.is_module):
        return Unread()
    opening = Opening(
        shard=Shard(order.index, order.of),
        positions=positions,
        until_caught_up=order.until_caught_up,
        transaction=scope_of(plan, source, order.shard) if source.transactional_sink else None,
        compile_template=renderer,
        compile_value=value_renderer,
        compile_key=key_maker,
        open_inbox=lambda: open_store(plan.state_url).inbox.of_source(
            plan.name, source.name, Shard(order.index, order.of)
        ),
    )
    return open_source(source, opening)


def _owns(order: WorkerOrder, reader: Reader, partition: str) -> bool:
    """Whether what is of this source partition is this worker's.

    What could not be read has none, nor has what was started by hand: the first worker takes it.
    """
    return reader.owns(partition) if partition else order.index == 0


def _inbox(
    order: WorkerOrder,
    plan: FlowPlan,
    parkings: Mapping[str, Parking],
    *,
    reader: Reader,
    lease: Lease,
    committer: Committer,
    halt: Halt,
    also: Callable[[StateStore], float],
) -> ReplayInbox:
    pipelines = {pipeline.name: pipeline for pipeline in plan.source(order.source).pipelines}

    return ReplayInbox(
        plan.name,
        order.source,
        pipelines,
        clustered=[name for name in pipelines if name not in parkings],
        by=f"{order.holder}/{order.shard}#{lease.fence}",
        owns=partial(_owns, order, reader),
        open_store=lambda: reopen_store(plan.state_url),
        committer=committer,
        halt=halt,
        also=also,
    )


def _parkings(order: WorkerOrder, plan: FlowPlan, last_turn: int) -> dict[str, Parking]:
    """Return a parking, empty yet, for each pipeline but those that are spread over a cluster."""
    return {
        pipeline.name: Parking(last_turn, one_by_one=pipeline.saga is not None)
        for pipeline in plan.source(order.source).pipelines
        if not (order.addresses and pipeline.partition_by)
    }


def _run_dataflow(order: WorkerOrder, intake: Intake | None, branches: list[Branch]) -> None:
    """Run it to its end: alone, or as one process of a Bytewax cluster."""
    epoch = timedelta(0)
    if not order.addresses:
        alone = build_dataflow(order.source, intake, branches)
        run_main(alone, epoch_interval=epoch)  # type: ignore[no-untyped-call]
        return
    cluster = Cluster(order.process, len(order.addresses))
    shared = build_dataflow(order.source, intake, branches, cluster)
    cluster_main(  # type: ignore[no-untyped-call]
        shared, order.addresses, order.process, epoch_interval=epoch
    )


def _finish(intake: Intake | None, committer: Committer, halt: Halt) -> None:
    """Store the last epoch, which no `next_batch` follows, and acknowledge it."""
    if intake is not None and not halt.error:
        intake.finish()
    committer.close()
    if intake is not None:
        intake.acknowledge()


def _let_go(intake: Intake, reader: Reader) -> None:
    """Acknowledge what is durable, and give back what is not: others may have it at once."""
    intake.acknowledge()
    reader.close()


def _standing_by(
    order: WorkerOrder, plan: FlowPlan, store: StateStore, halt: Halt, reporter: Reporter
) -> Callable[[str], bool]:
    """Return what waits a moment for a reason, and says whether to stop instead."""
    outlive = _outliving(order, plan, halt, reporter)

    def wait(reason: str) -> bool:
        over = order.only_replays and not _is_asked(order, plan, store)
        return outlive(reason) or over

    return wait


def _outliving(
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


def _announce(
    plan: FlowPlan,
    lease: Lease,
    sinks: Mapping[str, Sink],
    known: Mapping[str, object],
) -> None:
    """Have the store know of each writer before its first write, and that the files were free.

    Without it, a start after a crash in the first batch could not tell what that batch wrote from
    what was written before the state was reset, and what a labelled writer wrote that never
    settled a batch could be undone only by the same label.
    """
    states = {
        name: state
        for name, sink in sinks.items()
        if name not in known and (state := sink.settled_state()) is not None
    }
    if states or lease.taken_from:
        with closing(open_store(plan.state_url)) as store:
            store.save_sink_states(lease, states)
            if lease.taken_from:
                store.forget_former_holder(lease)


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


def main(argument: str) -> int:
    """Run the worker that `argument` orders; return its exit code."""
    order = WorkerOrder(**orjson.loads(argument))
    if sys.platform == "linux":
        die_with_supervisor()
        tune_memory()
    halt = Halt()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor's terminal sends it to us too
    reporter = Reporter(order.report_fd, halt, is_watched(order.watch_fd))
    drain = Drain(halt, reporter, order.drain_timeout)
    drain.listen(exit_code)
    error: PenstockError | None
    try:
        plan = load_flow([Path(name) for name in order.files])
        reporter.redact = plan.redact
        set_up_logging(order.log_level or plan.log.level, order.log_format, plan.redact)
        run_worker(order, plan, halt, reporter, drain=drain)
        error = halt.error
    except PenstockError as raised:
        error = halt.error or raised
    reporter.close(error)
    return exit_code(error)


def exit_code(error: PenstockError | None) -> int:
    """Return the exit code of a worker that ended with `error`."""
    if error is None:
        return exits.DONE
    if isinstance(error, FlowFileError):
        return exits.USAGE
    if error.code in {"lease_lost", "kafka_fenced"}:
        return exits.LEASE_LOST
    if isinstance(error, FatalError) and not error.unreachable:
        return exits.FATAL
    return exits.UNREACHABLE
