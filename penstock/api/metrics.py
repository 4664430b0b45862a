"""The metrics: one table that says what there is, and what fills it from the workers' reports.

Counters count from the start of `penstock run` and go on when a worker is started again. Nothing
is labelled with what events hold (ids, keys), so the number of series is the flow file's doing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from types import MappingProxyType
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from flows.runtime.measures import BOUNDS, Histogram
from flows.runtime.reports import sum_lags
from flows.runtime.supervisor import WorkerView
from flows.state.archive_queries import ArchiveTotals
from flows.state.copy_store import CopyCounts
from penstock.api.calls import Backend

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as /metrics and its reference page name it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


TABLE = (
    Described(
        "workflow_pipeline_executions_total",
        "counter",
        ("pipeline", "status"),
        "Executions that ended: completed, failed (a dead letter each) or skipped.",
    ),
    Described(
        "workflow_pipeline_duration_seconds",
        "histogram",
        ("pipeline",),
        "From an execution's start to its outcome, in which its batch was settled; with the time it"
        " was parked.",
    ),
    Described(
        "workflow_pipeline_active_executions",
        "gauge",
        ("pipeline",),
        "Executions that are in their steps.",
    ),
    Described(
        "workflow_pipeline_parked_executions",
        "gauge",
        ("pipeline",),
        "Executions that wait to be tried again, or behind one that does.",
    ),
    Described(
        "workflow_outbox_events",
        "gauge",
        ("pipeline",),
        "Events in outboxes that wait to be published. Absent for pipelines without an outbox.",
    ),
    Described(
        "workflow_pipeline_error_rate",
        "gauge",
        ("pipeline",),
        "Failed executions of the last five minutes, in percent.",
    ),
    Described(
        "workflow_step_executions_total",
        "counter",
        ("pipeline", "step", "status"),
        "Executions that a step went through for (completed), gave up on (failed) or was passed"
        " over for (skipped).",
    ),
    Described(
        "workflow_step_duration_seconds",
        "histogram",
        ("pipeline", "step", "type"),
        "Time of a step per execution: what it took for a batch, spread evenly over it.",
    ),
    Described(
        "workflow_step_retries_total",
        "counter",
        ("pipeline", "step"),
        "Tries of a step that were repeated, or are to be.",
    ),
    Described(
        "workflow_step_error_rate",
        "gauge",
        ("pipeline", "step"),
        "A step's failures of the last five minutes, in percent.",
    ),
    Described(
        "workflow_dlq_depth",
        "gauge",
        ("pipeline",),
        "Dead letters that there are; absent while the state store is away.",
    ),
    Described(
        "workflow_dlq_copies_waiting",
        "gauge",
        ("pipeline",),
        "Copies of dead letters that wait for `dead_letter.sink`; absent for pipelines without one, and"
        " while the state store is away.",
    ),
    Described(
        "workflow_dlq_copies_refused",
        "gauge",
        ("pipeline",),
        "Copies of dead letters that `dead_letter.sink` has refused; tried again at the next start.",
    ),
    Described(
        "workflow_archive_events",
        "gauge",
        ("source",),
        "Events that a source's archive holds; absent for sources without one, and while the state store"
        " is away.",
    ),
    Described(
        "workflow_archive_bytes",
        "gauge",
        ("source",),
        "Bytes that they take, compressed.",
    ),
    Described(
        "workflow_archive_oldest_timestamp_seconds",
        "gauge",
        ("source",),
        "When the oldest of them was archived, in seconds since the epoch.",
    ),
    Described(
        "workflow_event_store_events_total",
        "counter",
        ("pipeline",),
        "Executions put into the history.",
    ),
    Described(
        "workflow_connector_health",
        "gauge",
        ("connector", "type"),
        "1 while a source or sink is well in every worker that uses it, 0 while one waits for it,"
        " reconnects or does not answer. Steps with a circuit breaker (by their module, else as"
        " pipeline/step): 0 while one is open or half open.",
    ),
    Described(
        "workflow_source_lag_events",
        "gauge",
        ("source",),
        "Events that wait to be read; absent where the source does not know.",
    ),
    Described(
        "workflow_source_lag_bytes",
        "gauge",
        ("source",),
        "Bytes that wait to be read; absent where the source does not know.",
    ),
    Described(
        "workflow_source_lag_seconds",
        "gauge",
        ("source",),
        "Age of the last event that was read; absent where the source does not know.",
    ),
    Described(
        "workflow_source_slot_active",
        "gauge",
        ("source", "slot"),
        "1 while a connection reads the source's replication slot, 0 otherwise. These four are of sources"
        " that read one, as the server had it within the last ten seconds.",
    ),
    Described(
        "workflow_source_slot_retained_bytes",
        "gauge",
        ("source", "slot"),
        "WAL that the server keeps for the slot; absent once it is lost.",
    ),
    Described(
        "workflow_source_slot_safe_bytes",
        "gauge",
        ("source", "slot"),
        "WAL that may still be written before the slot is in danger of being lost, below 0 when it is;"
        " absent where max_slot_wal_keep_size sets no limit.",
    ),
    Described(
        "workflow_source_slot_wal_status",
        "gauge",
        ("source", "slot", "status"),
        "1 for the slot's wal_status (reserved, extended, unreserved or lost), 0 for the others.",
    ),
    Described(
        "workflow_checkpoint_age_seconds",
        "gauge",
        ("source", "shard"),
        "Since the last checkpoint while something waits for one; 0 while nothing does.",
    ),
    Described(
        "workflow_worker_pool_active", "gauge", ("pool",), "Workers of a source that are running."
    ),
    Described(
        "workflow_worker_pool_queue_depth",
        "gauge",
        ("pool",),
        "Executions of a source's pipelines that are parked, and its events not read yet where it"
        " knows them.",
    ),
    Described(
        "workflow_worker_up",
        "gauge",
        ("source", "shard"),
        "1 while a worker runs or stands by and reports, 0 otherwise.",
    ),
    Described(
        "workflow_worker_restarts_total",
        "counter",
        ("source", "shard"),
        "How often a worker's process ended and was started again.",
    ),
    Described(
        "workflow_worker_resident_memory_bytes",
        "gauge",
        ("source", "shard"),
        "Memory of a worker's process; absent where the system doesn't tell.",
    ),
    Described(
        "workflow_worker_cpu_seconds_total",
        "counter",
        ("source", "shard"),
        "CPU time of a worker's processes, user and system.",
    ),
    Described(
        "workflow_state_store_up",
        "gauge",
        (),
        "1 when the state store answered this scrape, 0 when it did not.",
    ),
    Described(
        "workflow_build_info",
        "gauge",
        ("version", "flow", "flow_version"),
        "1; labelled with the version of Penstock, the flow's name and its version.",
    ),
)
"""Everything /metrics has."""

WAL_STATUSES = ("reserved", "extended", "unreserved", "lost")

_Sample = tuple[tuple[str, ...], float]


def exposition(
    backend: Backend,
    depths: Mapping[str, int] | None,
    copies: Mapping[str, CopyCounts] = MappingProxyType({}),
    archives: Iterable[ArchiveTotals] = (),
) -> bytes:
    """Return the metrics of now in Prometheus's text format.

    `depths`: pipeline → its dead letters; None when the state store did not answer. `copies`: pipeline
    → its copies of dead letters that are not at their sink. `archives`: what sources' archives hold.
    """
    registry = CollectorRegistry()
    registry.register(_Moment(backend, depths, copies, archives))
    return generate_latest(registry)


class _Moment(Collector):
    """Fills the table with what is known now."""

    def __init__(
        self,
        backend: Backend,
        depths: Mapping[str, int] | None,
        copies: Mapping[str, CopyCounts],
        archives: Iterable[ArchiveTotals],
    ) -> None:
        self._backend = backend
        self._depths = depths
        self._copies = copies
        self._archives = archives

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that it is not asked twice."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric of the table."""
        found: dict[str, list[_Sample]] = {}
        histograms: dict[str, list[tuple[tuple[str, ...], Histogram]]] = {}
        self._pipelines(found, histograms)
        self._connectors(found)
        self._workers(found)
        self._store(found)
        for described in TABLE:
            yield _family(described, found.get(described.name, []), histograms)

    def _pipelines(
        self,
        found: dict[str, list[_Sample]],
        histograms: dict[str, list[tuple[tuple[str, ...], Histogram]]],
    ) -> None:
        live = self._backend.live
        measures = live.measures().pipelines
        rates, step_rates = live.error_rates()
        for source in self._backend.plan.sources:
            for plan in source.pipelines:
                name, key = plan.name, (plan.name,)
                counts = live.counts(source.name, name)
                for status, number in (
                    ("completed", counts.done),
                    ("failed", counts.failed),
                    ("skipped", counts.skipped),
                ):
                    _add(found, "workflow_pipeline_executions_total", (name, status), number)
                _add(
                    found,
                    "workflow_pipeline_active_executions",
                    key,
                    live.active(source.name, name),
                )
                _add(
                    found,
                    "workflow_pipeline_parked_executions",
                    key,
                    live.parked(source.name, name),
                )
                waiting = live.outbox(source.name, name)
                if waiting is not None:
                    _add(found, "workflow_outbox_events", key, waiting)
                rate = rates[name].percent if name in rates else 0.0
                _add(found, "workflow_pipeline_error_rate", key, rate)
                mine = measures.get(name)
                if mine is None:
                    continue
                _add(found, "workflow_event_store_events_total", key, mine.recorded)
                _time(histograms, "workflow_pipeline_duration_seconds", key, mine.durations)
                for step in plan.every_step():
                    did = mine.steps.get(step.place_in_pipeline)
                    if did is None:
                        continue
                    at = (name, step.place_in_pipeline)
                    for status, number in (
                        ("completed", did.completed),
                        ("failed", did.failed),
                        ("skipped", did.skipped),
                    ):
                        _add(found, "workflow_step_executions_total", (*at, status), number)
                    _add(found, "workflow_step_retries_total", at, did.retries)
                    failing = step_rates[at].percent if at in step_rates else 0.0
                    _add(found, "workflow_step_error_rate", at, failing)
                    timed = (*at, step.type)
                    _time(histograms, "workflow_step_duration_seconds", timed, did.durations)

    def _connectors(self, found: dict[str, list[_Sample]]) -> None:
        plan, live = self._backend.plan, self._backend.live
        types = {source.name: source.type for source in plan.sources}
        types |= {sink.name: sink.type for sink in plan.sinks}
        for pipeline in plan.pipelines:
            for step in pipeline.every_step():
                types[step.use or f"{pipeline.name}/{step.place_in_pipeline}"] = step.type
        health: dict[str, bool] = {}
        for worker in live.workers:
            well = not live.trouble(worker)
            for name, waits in worker.report.connectors.items():
                health[name] = health.get(name, True) and well and not waits
            if not well:  # one that has not reported yet, or not again, has no connectors
                health[worker.source] = False
        for name, well in health.items():
            _add(found, "workflow_connector_health", (name, types.get(name, "")), well)

    def _workers(self, found: dict[str, list[_Sample]]) -> None:
        live = self._backend.live
        for source in self._backend.plan.sources:
            if not source.pipelines:
                continue
            lag = sum_lags(live.lags(source.name).values())
            for unit, value in (
                ("events", lag.events),
                ("bytes", lag.bytes),
                ("seconds", lag.seconds),
            ):
                if value is not None:
                    _add(found, f"workflow_source_lag_{unit}", (source.name,), value)
            self._slots(found, source.name)
            workers = live.of_source(source.name)
            running = sum(_runs(worker) and not live.trouble(worker) for worker in workers)
            parked = sum(live.parked(source.name, each.name) for each in source.pipelines)
            _add(found, "workflow_worker_pool_active", (source.name,), running)
            depth = parked + (lag.events or 0)
            _add(found, "workflow_worker_pool_queue_depth", (source.name,), depth)
        for worker in live.workers:
            key = (worker.source, str(worker.index))
            up = not worker.done and not live.trouble(worker)
            _add(found, "workflow_worker_up", key, up)
            _add(found, "workflow_worker_restarts_total", key, worker.restarts)
            cpu = worker.measures().cpu_seconds
            _add(found, "workflow_worker_cpu_seconds_total", key, cpu)
            _add(found, "workflow_checkpoint_age_seconds", key, worker.report.stalled)
            if worker.report.memory is not None:
                memory = worker.report.memory
                _add(found, "workflow_worker_resident_memory_bytes", key, memory)

    def _slots(self, found: dict[str, list[_Sample]], source: str) -> None:
        for slot, health in self._backend.live.slots(source).items():
            of = (source, slot)
            _add(found, "workflow_source_slot_active", of, health.active)
            if health.retained_bytes is not None:
                _add(found, "workflow_source_slot_retained_bytes", of, health.retained_bytes)
            if health.safe_bytes is not None:
                _add(found, "workflow_source_slot_safe_bytes", of, health.safe_bytes)
            for status in WAL_STATUSES:
                at = (*of, status)
                _add(found, "workflow_source_slot_wal_status", at, status == health.wal_status)

    def _store(self, found: dict[str, list[_Sample]]) -> None:
        plan = self._backend.plan
        _add(found, "workflow_state_store_up", (), self._depths is not None)
        for pipeline, depth in (self._depths or {}).items():
            _add(found, "workflow_dlq_depth", (pipeline,), depth)
        for pipeline, counts in self._copies.items():
            _add(found, "workflow_dlq_copies_waiting", (pipeline,), counts.waiting)
            _add(found, "workflow_dlq_copies_refused", (pipeline,), counts.refused)
        for archive in self._archives:
            of = (archive.source,)
            _add(found, "workflow_archive_events", of, archive.events)
            _add(found, "workflow_archive_bytes", of, archive.bytes)
            if archive.oldest is not None:
                _add(found, "workflow_archive_oldest_timestamp_seconds", of, archive.oldest)
        about = (version("penstock"), plan.name, plan.version_hash)
        _add(found, "workflow_build_info", about, 1)


def _runs(worker: WorkerView) -> bool:
    return worker.report.state == "running"


def _add(found: dict[str, list[_Sample]], name: str, labels: tuple[str, ...], value: float) -> None:
    found.setdefault(name, []).append((labels, float(value)))


def _time(
    found: dict[str, list[tuple[tuple[str, ...], Histogram]]],
    name: str,
    labels: tuple[str, ...],
    histogram: Histogram,
) -> None:
    found.setdefault(name, []).append((labels, histogram))


def _family(
    described: Described,
    samples: Sequence[_Sample],
    histograms: Mapping[str, Sequence[tuple[tuple[str, ...], Histogram]]],
) -> Metric:
    name, text, labels = described.name, described.help, list(described.labels)
    if described.kind == "histogram":
        timed = HistogramMetricFamily(name, text, labels=labels)
        for key, histogram in histograms.get(name, ()):
            bounds = [*map(str, BOUNDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            timed.add_metric(list(key), buckets, histogram.seconds)
        return timed
    make = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
    family = make(name, text, labels=labels)
    for key, value in samples:
        family.add_metric(list(key), value)
    return family
