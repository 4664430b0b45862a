"""Routes about the flow as it runs: pipelines, sources, workers, what waits."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from sqlalchemy import make_url

from connectors.contracts import Lag
from connectors.errors import FlowFileError
from flows.plan import PipelinePlan, StepPlan
from flows.runtime.measures import PipelineMeasures, StepMeasures
from flows.runtime.reports import sum_lags
from flows.runtime.supervisor import WorkerView
from flows.spec.problems import did_you_mean
from flows.state.letter_documents import when
from flows.state.reading import ParkedSummary, parked_cursor
from flows.state.records import PartitionState, PipelineTotals
from penstock.api.calls import Backend, Call, Route
from penstock.api.documents import (
    FlowsDocument,
    ParkedPageDocument,
    PipelineDetailDocument,
    PipelinesDocument,
    SourcesDocument,
    WorkersDocument,
)
from penstock.api.live import Rate
from penstock.api.queries import ParkedQuery
from penstock.api.readers import Stores

Json = dict[str, Any]


async def list_flows(call: Call) -> Json:
    """List the flows of this process: the one that `penstock run` was given."""
    backend = call.backend
    plan, live = backend.plan, backend.live
    flow = {
        "name": plan.name,
        "version": plan.version_hash,
        "started_at": when(backend.started_at),
        "penstock": version("penstock"),
        "state": plan.redact(make_url(plan.state_url).render_as_string(hide_password=True)),
        "ready": not any(live.trouble(worker) for worker in live.workers),
        "sources": [source.name for source in plan.source_modules],
        "sinks": [sink.name for sink in plan.sinks],
        "pipelines": [pipeline.name for pipeline in plan.pipelines],
    }
    return {"flows": [flow]}


async def list_pipelines(call: Call) -> Json:
    """List the pipelines as they are now.

    From the workers' last reports, so it is answered while the state store is away.
    """
    rates = call.backend.live.error_rates()[0]
    plans = call.backend.plan.pipelines
    return {"pipelines": [_pipeline(call.backend, plan, rates) for plan in plans]}


async def get_pipeline(call: Call) -> Json:
    """Show one pipeline: its plan, what each step did, and its totals from the state store."""
    backend = call.backend
    plan = find_pipeline(backend, call.path["pipeline"])
    flow = backend.plan.name

    def read(stores: Stores) -> PipelineTotals | None:
        return stores.reader.totals(flow).get(plan.name)

    totals = await call.ask(read) or PipelineTotals(plan.name, 0, 0, 0, 0)
    rates, step_rates = backend.live.error_rates()
    measured = backend.live.measures().pipelines.get(plan.name, PipelineMeasures())
    shown = _pipeline(backend, plan, rates)
    shown["plan"] = {
        "event_type": plan.event_type,
        "when": _redacted(backend, plan.when),
        "schema": plan.schema,
        "on_invalid": plan.on_invalid,
        "order": plan.order,
        "key": _redacted(backend, plan.key),
        "partition_by": _redacted(backend, plan.partition_by),
        "steps": [
            _step(
                backend,
                step,
                measured.steps.get(step.place_in_pipeline, StepMeasures()),
                step_rates.get((plan.name, step.place_in_pipeline), Rate()),
            )
            for step in plan.every_step()
        ],
    }
    shown["totals"] = {
        "done": totals.done,
        "failed": totals.failed,
        "skipped": totals.skipped,
        "dead_letters": totals.dead_letters,
        "parked": totals.parked,
    }
    return shown


async def list_sources(call: Call) -> Json:
    """List the sources with the stored position of each partition, lag and workers."""
    backend = call.backend
    flow = backend.plan.name

    def read(stores: Stores) -> list[PartitionState]:
        return stores.reader.partitions(flow)

    stored = await call.ask(read)
    live = backend.live
    shown = []
    for source in backend.plan.source_modules:
        if not source.pipelines:
            continue
        workers = live.of_source(source.name)
        waits = dict.fromkeys(worker.report.connectors.get(source.name, "") for worker in workers)
        shown.append(
            {
                "name": source.name,
                "type": source.type,
                "pipelines": [pipeline.name for pipeline in source.pipelines],
                "status": backend.plan.redact("; ".join(wait for wait in waits if wait)),
                "lag": _lag(sum_lags(live.lags(source.name).values())),
                "partitions": [_partition(row) for row in stored if row.source == source.name],
                "workers": [_worker(backend, worker) for worker in workers],
            }
        )
    return {"sources": shown}


async def list_workers(call: Call) -> Json:
    """List the worker processes and what each does.

    From their last reports, so it is answered while the state store is away.
    """
    backend = call.backend
    return {"workers": [_worker(backend, worker) for worker in backend.live.workers]}


async def list_parked(call: Call) -> Json:
    """List the executions that wait to be tried again, or behind one that does; due first first."""
    backend = call.backend
    query: ParkedQuery = call.query
    flow = backend.plan.name
    if query.pipeline is not None:
        find_pipeline(backend, query.pipeline)

    def read(stores: Stores) -> list[ParkedSummary]:
        return stores.reader.parked_page(
            flow, pipeline=query.pipeline, limit=query.limit + 1, after=query.cursor
        )

    found = await call.ask(read)
    page = found[: query.limit]
    return {
        "parked": [_parked(row) for row in page],
        "cursor": parked_cursor(page[-1]) if len(found) > query.limit else None,
    }


def find_pipeline(backend: Backend, name: str) -> PipelinePlan:
    """Return the pipeline of that name. Raises FlowFileError `unknown_pipeline`."""
    for plan in backend.plan.pipelines:
        if plan.name == name:
            return plan
    raise FlowFileError(
        f"the flow {backend.plan.name} has no pipeline {name}.",
        code="unknown_pipeline",
        hint=did_you_mean(name, [plan.name for plan in backend.plan.pipelines]),
    )


def _pipeline(backend: Backend, plan: PipelinePlan, rates: dict[str, Rate]) -> Json:
    live, source = backend.live, plan.source
    counts = live.counts(source, plan.name)
    return {
        "name": plan.name,
        "source": plan.module,
        "state": backend.plan.redact(_state(live.of_source(source))),
        "counts": {
            "received": counts.received,
            "done": counts.done,
            "failed": counts.failed,
            "skipped": counts.skipped,
        },
        "active": live.active(source, plan.name),
        "parked": live.parked(source, plan.name),
        "error_rate": round(rates.get(plan.name, Rate()).percent, 3),
        "lag": _lag(sum_lags(live.lags(source).values())),
    }


def _state(workers: list[WorkerView]) -> str:
    waits = dict.fromkeys(worker.report.status for worker in workers if worker.report.status)
    return "; ".join(waits) or ", ".join(dict.fromkeys(worker.report.state for worker in workers))


def _step(backend: Backend, step: StepPlan, measured: StepMeasures, rate: Rate) -> Json:
    retry = step.retry
    return {
        "name": step.place_in_pipeline,
        "type": step.type,
        "use": step.use,
        "acts": step.acts,
        "if": _redacted(backend, step.if_),
        "skip_if": _redacted(backend, step.skip_if),
        "on_error": step.on_error,
        "retry": None
        if retry is None
        else {
            "max_attempts": retry.max_attempts,
            "backoff": retry.backoff,
            "initial_delay_seconds": retry.initial_delay,
            "max_delay_seconds": retry.max_delay,
        },
        "completed": measured.completed,
        "failed": measured.failed,
        "skipped": measured.skipped,
        "retries": measured.retries,
        "error_rate": round(rate.percent, 3),
    }


def _redacted(backend: Backend, text: str | None) -> str | None:
    return None if text is None else backend.plan.redact(text)


def _lag(lag: Lag) -> Json:
    return {"events": lag.events, "bytes": lag.bytes, "seconds": lag.seconds}


def _partition(row: PartitionState) -> Json:
    return {
        "partition": row.partition,
        "position": row.position,
        "stored_at": when(row.updated_at),
        "lag": _lag(Lag(row.lag_events, row.lag_bytes, row.lag_seconds)),
    }


def _worker(backend: Backend, worker: WorkerView) -> Json:
    report, live = worker.report, backend.live
    return {
        "source": worker.source,
        "shard": worker.index,
        "state": report.state,
        "status": backend.plan.redact(report.status),
        "trouble": live.trouble(worker),
        "pid": worker.pid,
        "restarts": worker.restarts,
        "silent_seconds": round(live.silent(worker), 3),
        "stalled_seconds": round(report.stalled, 3),
        "memory_bytes": report.memory,
        "cpu_seconds": round(worker.measures().cpu_seconds, 3),
    }


def _parked(row: ParkedSummary) -> Json:
    error = {"code": row.error_code, "message": row.error_message} if row.error_code else None
    return {
        "id": row.id,
        "pipeline": row.pipeline,
        "source": row.source,
        "partition": row.partition,
        "key": row.lane,
        "step": row.step,
        "attempts": row.attempts,
        "due_at": when(row.due_at),
        "parked_at": when(row.parked_at),
        "event_id": row.event_id,
        "event_type": row.event_type,
        "error": error,
    }


ROUTES = (
    Route("GET", "/api/v1/flows", list_flows, FlowsDocument),
    Route("GET", "/api/v1/pipelines", list_pipelines, PipelinesDocument),
    Route("GET", "/api/v1/pipelines/{pipeline}", get_pipeline, PipelineDetailDocument),
    Route("GET", "/api/v1/sources", list_sources, SourcesDocument),
    Route("GET", "/api/v1/workers", list_workers, WorkersDocument),
    Route("GET", "/api/v1/parked", list_parked, ParkedPageDocument, ParkedQuery),
)
