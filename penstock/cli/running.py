"""Runs a flow with something to look at: from the command line to the supervisor."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from connectors.errors import FlowFileError
from flows.plan import FlowPlan
from flows.runtime.assemble import make_source, sinks_of
from flows.runtime.logs import set_up_logging
from flows.runtime.orders import DRAIN_TIMEOUT
from flows.runtime.supervisor import RunOptions, Supervisor
from flows.runtime.watched import WatchFlag
from penstock.api.live import Live
from penstock.api.serving import ApiServer, bind, check_guarded
from penstock.cli.errors import print_error
from penstock.cli.loading import load_runnable
from penstock.cli.options import Level, LogFormat
from penstock.cli.watching import LiveWatcher, LogWatcher, RunWatcher


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What `penstock run` was told; None: the flow file says."""

    workers: int = 1
    until_caught_up: bool = False
    drain_timeout: float = DRAIN_TIMEOUT
    """Seconds."""
    log_format: LogFormat | None = None
    log_level: Level | None = None
    live: bool = True
    server: bool = True
    address: str | None = None
    """Where to serve the API."""


def run_flow(files: Sequence[Path], settings: RunSettings) -> int:
    """Run the flow until its end or a signal; return the exit code. Raises PenstockError."""
    plan = load_runnable(files)
    terminal = sys.stderr.isatty()
    log_format = _log_format(settings.log_format or plan.log.format, terminal=terminal)
    set_up_logging(settings.log_level or plan.log.level, log_format, plan.redact)
    live = settings.live and terminal and log_format == "console" and not _prints_events(plan)
    pipelines = {
        source.name: [pipeline.name for pipeline in source.pipelines]
        for source in plan.sources
        if source.pipelines
    }
    dlq_arguments = shlex.join(str(path) for path in files)
    watcher: RunWatcher = (
        LiveWatcher(pipelines, dlq_arguments) if live else LogWatcher(pipelines, dlq_arguments)
    )
    options = RunOptions(
        workers=settings.workers,
        until_caught_up=settings.until_caught_up,
        drain_timeout=settings.drain_timeout,
        log_format=log_format,
        log_level=settings.log_level,
    )
    address = settings.address or plan.server.address
    check_guarded(plan, address)
    flag = WatchFlag()
    workers = Live(watch=flag.watch)
    supervisor = Supervisor(
        files,
        plan,
        options,
        watcher,
        observe=workers.see,
        happened=workers.happened,
        watch_fd=flag.fileno(),
    )
    if plan.declared_schemas:
        from flows.schemas.declared import register_declared  # noqa: PLC0415 - few flows need it

        register_declared(plan)
    _say_what_starts(plan, settings)
    served = _needs_server(plan, settings)
    with ExitStack() as running:
        if settings.server:
            _serve(plan, workers, address, running, lambda: supervisor.stopping, must=served)
        running.enter_context(watcher)
        code = supervisor.run()
    if watcher.ended_by is not None:
        error = watcher.ended_by
        print_error(error.code, error.message, error.hint)
    return code


def _needs_server(plan: FlowPlan, settings: RunSettings) -> bool:
    """Whether events come to the server. Raises FlowFileError where it is not to run, then."""
    hooks = [
        source.name
        for source in plan.sources
        if source.pipelines and make_source(source).traits.pushed
    ]
    if (
        not hooks or settings.until_caught_up
    ):  # what has come is worked off, with a server or without
        return False
    if not settings.server:
        raise FlowFileError(
            f"{hooks[0]} gets its events from the server, and --no-server runs without it.",
            code="server_needed",
            hint="Leave --no-server out. With --until-caught-up it works off what has come.",
        )
    return True


def _serve(
    plan: FlowPlan,
    workers: Live,
    address: str,
    running: ExitStack,
    is_draining: Callable[[], bool],
    *,
    must: bool,
) -> None:
    """Serve the API until `running` ends; where that can't be, the flow runs without.

    Unless it `must`: then it raises FlowFileError.
    """
    log = structlog.get_logger("penstock.run")
    try:
        server = ApiServer(plan, workers, bind(address), is_draining=is_draining)
    except FlowFileError as error:
        if must:
            raise
        log.warning("no API", code=error.code, error=error.message, hint=error.hint)
        return
    running.callback(server.close)
    server.start()
    log.info("API", url=f"{server.url}/api/v1", metrics=f"{server.url}/metrics")


def _log_format(wanted: LogFormat, *, terminal: bool) -> Literal["console", "json"]:
    if wanted == "auto":
        return "console" if terminal else "json"
    return wanted


def _prints_events(plan: FlowPlan) -> bool:
    """Whether events go to the terminal that the table would be on."""
    used = {name for source in plan.sources for p in source.pipelines for name in sinks_of(p)}
    return sys.stdout.isatty() and any(plan.sink(name).type == "sink.stdout" for name in used)


def _say_what_starts(plan: FlowPlan, settings: RunSettings) -> None:
    log = structlog.get_logger("penstock.run")
    log.info("flow starts", flow=plan.name, files=[str(path) for path in plan.files])
    if settings.workers == 1:
        return
    for source in plan.sources:
        spread = any(pipeline.partition_by for pipeline in source.pipelines)
        if not source.is_module:
            continue
        if source.pipelines and not spread and not make_source(source).traits.partitioned:
            log.warning(
                "one worker only: this source can't be shared out; partition_by would spread it",
                source=source.name,
                asked_for=settings.workers,
            )
