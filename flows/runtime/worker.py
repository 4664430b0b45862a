"""A worker: one process that runs one shard of one source through its pipelines.

Started by the supervisor as `python -m flows.runtime.process ORDER`, ORDER being a WorkerOrder in
JSON. Reports go to the pipe it names, log lines to stderr, the outcome into the exit code.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
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
from connectors.errors import FatalError, FlowFileError, PenstockError
from flows.plan import FlowPlan, SourcePlan, load_flow
from flows.runtime import exits
from flows.runtime.assemble import (
    assemble_branches,
    make_source,
    open_sinks,
    open_sinks_when_free,
    open_source,
)
from flows.runtime.branch import Branch
from flows.runtime.build import Cluster, build_dataflow
from flows.runtime.committer import Committer
from flows.runtime.copying import LetterCopying
from flows.runtime.copying_setup import open_copying
from flows.runtime.depths import DeadLetterDepths
from flows.runtime.draining import GRACE, Drain
from flows.runtime.halt import Halt
from flows.runtime.intake import Intake
from flows.runtime.jobs import Job
from flows.runtime.key_keeping import PipelineKeys, open_keys, teller
from flows.runtime.logs import set_up_logging
from flows.runtime.lookahead import Lookahead
from flows.runtime.orders import WorkerOrder
from flows.runtime.outboxes import open_outboxes
from flows.runtime.replay_inbox import ReplayInbox
from flows.runtime.replaying import Replaying
from flows.runtime.reporter import Reporter
from flows.runtime.resuming import Resumer
from flows.runtime.retention import archived_at_most, pruner, recorded_at_most
from flows.runtime.saga_keeping import open_sagas
from flows.runtime.saga_retries import SagaRetries
from flows.runtime.sagas import Sagas
from flows.runtime.signals import Signalling
from flows.runtime.sinks import key_maker, renderer, value_renderer
from flows.runtime.snapshot_requests import ask_for_snapshots
from flows.runtime.standby import Holding, outliving, take_over
from flows.runtime.transactions import TransactionRun, scope_of
from flows.runtime.tuning import die_with_supervisor, spare_the_collector, tune_memory
from flows.runtime.unread import Unread
from flows.runtime.watched import is_watched
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
    with ExitStack() as opened:
        holding = take_over(order, plan, halt, reporter, opened, as_job=job is not None)
        if holding is not None:
            worker = _Worker(
                order,
                plan,
                holding,
                halt=halt,
                reporter=reporter,
                opened=opened,
                job=job,
                drain=drain or Drain(halt, reporter),
            )
            worker.run()


class _Worker:
    """A run of a shard that is ours: opens what it takes, each thing as soon as another needs it."""

    def __init__(
        self,
        order: WorkerOrder,
        plan: FlowPlan,
        holding: Holding,
        *,
        halt: Halt,
        reporter: Reporter,
        opened: ExitStack,
        job: Job | None,
        drain: Drain,
    ) -> None:
        self._order = order
        self._plan = plan
        self._source = plan.source(order.source)
        self._holding = holding
        self._halt = halt
        self._reporter = reporter
        self._opened = opened
        self._job = job
        self._drain = drain
        # The first worker counts for all: dead letters are the pipeline's, whoever made them.
        self._counts = holding.is_first and job is None
        self._reader: Reader | None = None
        self._lookahead = self._make_lookahead()

    def run(self) -> None:
        """Run it; see `run_worker`."""
        order, plan, source, halt = self._order, self._plan, self._source, self._halt
        holding, opened, job = self._holding, self._opened, self._job
        keys = open_keys(plan, source, halt, opened)
        depths = DeadLetterDepths(plan, source.pipelines if self._counts else ())
        committer = self._open_committer(keys, depths)
        sinks = self._open_sinks()
        if sinks is None:
            return
        outboxes = open_outboxes(
            plan,
            source,
            halt,
            opened,
            shard=order.shard,
            open_store=self._open_store,
            counts=self._counts,
        )
        copying = self._open_copying()
        signalling: Signalling | None = None
        if order.reads:
            signalling = Signalling(
                holding.signals,
                holding.parkings,
                committer,
                self._owns,
                spread=holding.spread.parkings,
            )
        sagas = open_sagas(plan, source, holding.lease, halt, opened)
        branches = assemble_branches(
            plan,
            source,
            sinks,
            committer=committer if job is None else job.outcomes(committer),
            halt=halt,
            opened=opened,
            marks=holding.marks,
            parkings={**holding.parkings, **holding.spread.parkings},
            sagas=sagas,
            keys=keys,
            relay=outboxes.waker,
            signals=signalling,
            due=holding.spread.due(committer, halt, opened),
            happenings=self._reporter.happenings if job is None else None,
        )
        for branch in branches:
            branch.ingest.settled_before = holding.before_crash.get(branch.name)
            if job is not None:
                branch.ingest.run = job.run
        intake: Intake | None = None
        if signalling is not None:
            intake = self._open_intake(branches, committer, sagas, signalling)
        outboxes.start()
        self._reporter.watch(
            order.source,
            self._reader,
            intake,
            committer,
            branches,
            depths=depths,
            outboxes=outboxes,
            copying=copying,
        )
        log.info("worker started", source=source.name, shard=order.shard)
        spare_the_collector()
        try:
            _run_dataflow(order, intake, branches)
        except BaseException:  # Bytewax turns what an operator raises into an error of its own
            if not halt.error:
                raise
        self._drain.begin_to_end()
        _finish(intake, committer, halt)
        self._drain.is_stored()
        outboxes.drain()

    def _open_store(self) -> StateStore:
        return reopen_store(self._plan.state_url)

    def _lags(self) -> Mapping[str, Lag]:
        return {} if self._reader is None else self._reader.lag()

    def _owns(self, partition: str) -> bool:
        """Whether what is of this source partition is this worker's.

        What could not be read has none, nor has what was started by hand: the first worker takes it.
        """
        if self._reader is None:  # opened later than those who ask
            return False
        return self._reader.owns(partition) if partition else self._order.index == 0

    def _open_committer(self, keys: dict[str, PipelineKeys], depths: DeadLetterDepths) -> Committer:
        plan, source, holding = self._plan, self._source, self._holding
        is_marked = holding.is_marked or holding.marks
        committer = Committer(
            self._open_store,
            holding.lease,
            source.name,
            self._halt,
            lags=self._lags,
            prune=pruner(plan),
            prune_after=recorded_at_most(plan),
            archive_prune_after=archived_at_most(source),
            tell=teller(keys),
            look=depths.look,
            marks=holding.marks.values(),
            begins=holding.positions if is_marked else None,
            in_transactions=source.transactional_sink is not None,
        )
        committer.start()
        self._opened.callback(committer.close)
        self._drain.stores_by(partial(committer.close, GRACE))
        return committer

    def _make_lookahead(self) -> Lookahead | None:
        """Return what reads ahead while sinks wait, for a source that gains by it."""
        order, source = self._order, self._source
        if self._job is not None or order.addresses or source.transactional_sink is not None:
            return None
        return Lookahead(self._halt) if make_source(source).traits.decodes_late else None

    def _open_sinks(self) -> dict[str, Sink] | None:
        """Open the sinks; None when asked to stop while their files were still another's."""
        order, plan, holding = self._order, self._plan, self._holding
        states = holding.sink_states
        sinks = open_sinks_when_free(
            lambda opened: open_sinks(
                plan,
                self._source,
                states,
                order.writers,
                opened,
                before=holding.transactional,
                meanwhile=None if self._lookahead is None else self._lookahead.meanwhile,
            ),
            holding.lease,
            self._opened,
            outliving(order, plan, self._halt, self._reporter),
        )
        if sinks is not None:
            self._reporter.status = ""
            _announce(plan, holding.lease, sinks, states)
        return sinks

    def _open_copying(self) -> list[LetterCopying]:
        order = self._order
        if not self._counts or order.only_replays:
            return []
        return open_copying(
            self._plan,
            self._source,
            holder=f"{order.holder}/{order.shard}",
            open_store=self._open_store,
            halt=self._halt,
            patient=order.until_caught_up,
            opened=self._opened,
        )

    def _open_intake(
        self,
        branches: Sequence[Branch],
        committer: Committer,
        sagas: Mapping[str, Sagas],
        signalling: Signalling,
    ) -> Intake:
        """Open the reader, and the intake that reads it."""
        order, plan, source, halt = self._order, self._plan, self._source, self._halt
        holding, parkings, opened = self._holding, self._holding.parkings, self._opened
        if self._job is None:
            reader = _open_reader(order, plan, holding.positions)
        else:
            reader = self._job.open_reader(holding.positions, halt)
        self._reader = reader
        opened.callback(reader.close)
        for place in holding.places:
            if place.pipeline in parkings and self._owns(place.partition):
                parkings[place.pipeline].take_over(place)
        inbox = self._open_inbox(committer)
        ask_for_snapshots(plan, order.source, reader, halt, opened)
        retries: SagaRetries | None = None
        if sagas:
            retries = SagaRetries(
                plan.name,
                source.name,
                source.pipelines,
                parkings=parkings,
                sagas=sagas,
                owns=self._owns,
                stored=lambda: committer.stored,
            )
        resumer = Resumer(
            plan.name,
            source.pipelines,
            parkings,
            committer,
            self._open_store,
            retries=retries,
            signals=signalling,
        )
        opened.callback(resumer.close)
        transactions: TransactionRun | None = None
        if holding.takeover is not None:
            transactions = holding.takeover.run(
                holding.transactional, committer, halt, holding.positions, reader
            )
        if self._lookahead is not None:
            self._lookahead.follow(reader)
        intake = Intake(
            self._lookahead or reader,
            committer,
            halt,
            resumer=resumer,
            replaying=Replaying(source.pipelines, branches, parkings, committer, inbox),
            # Without a source there is nothing but what was asked for: with that it is at its end.
            only_replays=order.only_replays or (order.until_caught_up and not source.is_module),
            transactions=transactions,
            signals=signalling,
            elsewhere=holding.spread.elsewhere(order.source, committer, opened, readers=order.of),
            shares_thread=bool(order.addresses) and order.of > 1,
            archives=_archives(source),
        )
        self._drain.lets_go_by(partial(_let_go, intake, reader))
        return intake

    def _open_inbox(self, committer: Committer) -> ReplayInbox:
        order, holding = self._order, self._holding
        pipelines = {pipeline.name: pipeline for pipeline in self._source.pipelines}
        inbox = ReplayInbox(
            self._plan.name,
            order.source,
            pipelines,
            clustered=[name for name in pipelines if name not in holding.parkings],
            by=f"{order.holder}/{order.shard}#{holding.lease.fence}",
            owns=self._owns,
            open_store=self._open_store,
            committer=committer,
            halt=self._halt,
            also=holding.signals.look,
        )
        inbox.start()
        self._opened.callback(inbox.close)
        return inbox


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
