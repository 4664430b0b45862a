"""Runs the checks of sources, sinks and the state store, all at once and bounded in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from connectors.contracts import Check, TransactionalSink
from connectors.errors import FatalError, PenstockError, RetryableError
from flows.plan import FlowPlan
from flows.runtime import exits
from flows.runtime.transactions import scope_of
from flows.spec.registries import ExternalRegistry
from flows.state.store import open_store
from penstock.cli.modules import make_modules, topics_by_sink
from transforms.registry import step_type

PATIENCE = 20.0
"""Seconds that all checks may take together. Connectors give up on their servers sooner."""

Probe = Callable[[], Iterable[Check]]


@dataclass(frozen=True, slots=True)
class ModuleCheck:
    """One line of the table: a check, and of what."""

    module: str
    check: Check

    def redacted(self, redact: Callable[[str], str]) -> ModuleCheck:
        """Return it with every secret masked."""
        found, hint = redact(self.check.found), redact(self.check.hint)
        return ModuleCheck(self.module, replace(self.check, found=found, hint=hint))


def check_servers(plan: FlowPlan, patience: float = PATIENCE) -> list[ModuleCheck]:
    """Return the checks of everything that the flow connects to, in the order of the flow."""
    return run_probes(probes_of(plan), patience)


def probes_of(plan: FlowPlan) -> dict[str, Probe]:
    """Return what there is to check: title → probe. Types that aren't built yet have none."""
    probes: dict[str, Probe] = {"state": lambda: _check_state(plan.state_url)}
    if plan.schema_registry is not None:
        probes["schema_registry"] = partial(_check_registry, plan.schema_registry)
    topics = topics_by_sink(plan)
    sources, sinks, _ = make_modules(plan)
    both = sources.keys() & sinks.keys()
    for name, made in sources.items():
        probes[f"{name} (source)" if name in both else name] = made.preflight
    for name, sink in sinks.items():
        title = f"{name} (sink)" if name in both else name
        probes[title] = _sink_probe(sink.preflight, topics.get(name, []))
    for source in plan.sources:
        writing = sinks.get(source.transactional_sink or "")
        if isinstance(writing, TransactionalSink):
            scope = scope_of(plan, source, f"{source.name}/0")
            title = f"{source.name} (transactions)"
            probes[title] = partial(writing.preflight_transactions, scope)
    for pipeline in plan.pipelines:
        if pipeline.idempotency is not None and pipeline.idempotency.store != "state":
            url = pipeline.idempotency.store
            probes[f"{pipeline.name} (idempotency)"] = partial(_check_keys, url, plan.name)
        for step in (*pipeline.every_step(), *pipeline.compensations()):
            kind = step_type(step.type)
            if kind is not None and kind.preflight is not None:
                place = f"{pipeline.name}/{step.place_in_pipeline}"
                # Branches of one step may use a name twice.
                again = sum(title.partition(" (")[0] == place for title in probes)
                title = f"{place} ({again + 1})" if again else place
                probes[title] = partial(kind.preflight, step.settings, plan.folder)
            if step.publishes:
                table = str(step.publishes[0].outbox)
                title = f"{pipeline.name}/{step.name} (outbox)"
                probes[title] = partial(_check_outbox, step.settings.database, table, plan.name)
    return probes


def _sink_probe(preflight: Callable[[Sequence[str]], Iterable[Check]], topics: list[str]) -> Probe:
    return lambda: preflight(topics)


def run_probes(probes: Mapping[str, Probe], patience: float) -> list[ModuleCheck]:
    """Run each probe on a thread of its own; one that has not ended in time fails."""
    found: dict[str, list[Check]] = {name: [] for name in probes}
    threads = {}
    for name, probe in probes.items():
        threads[name] = threading.Thread(
            target=_collect, args=(probe, found[name]), name=f"preflight {name}", daemon=True
        )
        threads[name].start()
    deadline = time.monotonic() + patience
    checks = []
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        late = thread.is_alive()
        checks += [ModuleCheck(name, check) for check in tuple(found[name])]
        if late:
            checks.append(ModuleCheck(name, _late(patience)))
    return checks


def _collect(probe: Probe, found: list[Check]) -> None:
    try:
        found.extend(probe())
    except PenstockError as error:
        found.append(failed("connect", error))
    except Exception as error:  # noqa: BLE001 - one connector's defect must not hide other checks
        found.append(
            Check(
                "checks",
                ok=False,
                found=f"the checks broke: {type(error).__name__}: {error}",
                hint="This is a defect of the connector; please report it.",
            )
        )


def failed(name: str, error: PenstockError) -> Check:
    """Return an error as a check that does not hold."""
    unreachable = isinstance(error, RetryableError) or (
        isinstance(error, FatalError) and error.unreachable
    )
    return Check(name, ok=False, found=error.message, hint=error.hint, unreachable=unreachable)


def _late(patience: float) -> Check:
    return Check(
        "answer",
        ok=False,
        found=f"no answer within {patience:g} s",
        hint="Is the server up, and does a firewall let this host through to it?",
        unreachable=True,
    )


def _check_state(url: str) -> list[Check]:
    name = "state store"
    try:
        open_store(url, create=False).close()
    except PenstockError as error:
        if error.code == "state_missing":
            return [Check(name, ok=True, found="empty; it is made at the first run")]
        return [failed(name, error)]
    return [Check(name, ok=True, found="answers")]


def _check_registry(settings: ExternalRegistry) -> list[Check]:
    from flows.schemas.remote import RemoteRegistry  # noqa: PLC0415 - for flows that name one only

    with closing(RemoteRegistry(settings)) as registry:
        return registry.preflight()


def _check_keys(url: str, flow: str) -> list[Check]:
    from flows.state.redis_keys import RedisKeys  # noqa: PLC0415 - for flows that name one only

    with closing(RedisKeys(url, flow)) as keys:
        return keys.preflight()


def _check_outbox(url: str, table: str, flow: str) -> Iterable[Check]:
    from transforms.steps.outbox_preflight import check_outbox  # noqa: PLC0415 - as its driver

    return check_outbox(url, table, flow)


def outcome(checks: Iterable[ModuleCheck]) -> int:
    """Return the exit code: 3 when a server can't be reached, 1 when another check fails."""
    failures = [
        line.check for line in checks if not line.check.ok and line.check.severity == "error"
    ]
    if any(check.unreachable for check in failures):
        return exits.UNREACHABLE
    return exits.FOUND_FAILURES if failures else exits.DONE
