"""Checks how publish steps deliver: that a key they are idempotent by can't lose an event."""

from __future__ import annotations

from contextlib import suppress

from connectors.contracts import ConnectorType, SinkTraits
from connectors.errors import PenstockError
from flows.spec.configs import Configs, ModuleNode, StepNode
from flows.spec.nodes import Mapping
from flows.spec.problems import Problems


def check_publishing(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check every publish step; their sinks must be resolved."""
    sources = _sources(tree)
    in_transactions = _in_transactions(tree, sources, configs)
    for step in configs.every_step():
        if step.type == "step.publish" and getattr(step.settings, "idempotent", False):
            edge = (sources.get(step.pipeline), step.sink)
            _check_idempotent(step, configs, problems, in_transaction=edge in in_transactions)


def traits_of(module: ModuleNode | None) -> SinkTraits | None:
    """Return what a sink module promises; None for one that is not known well enough to tell."""
    if module is None or not isinstance(module.kind, ConnectorType):
        return None
    if module.kind.sink is None or module.settings is None:
        return None
    with suppress(PenstockError):  # what is wrong with it is said when it is opened
        return module.kind.sink(module.name, module.settings).traits
    return None


def _sources(tree: Mapping) -> dict[str, str | None]:
    """Return pipeline → the module that it is triggered by."""
    found: dict[str, str | None] = {}
    pipelines = tree.mapping("pipelines")
    for name, entry in pipelines.entries.items() if pipelines else ():
        trigger = entry.value.mapping("trigger") if isinstance(entry.value, Mapping) else None
        source = trigger.text("source") if trigger else None
        found[name] = source.value if source else None
    return found


def _in_transactions(
    tree: Mapping, sources: dict[str, str | None], configs: Configs
) -> set[tuple[str | None, str | None]]:
    """Return (source, sink) of each edge that a source's transactions hold."""
    pipelines = tree.mapping("pipelines")
    found: set[tuple[str | None, str | None]] = set()
    for step in configs.every_step():
        pipeline = pipelines.mapping(step.pipeline) if pipelines else None
        delivery = pipeline.text("delivery") if pipeline else None
        if step.sink is not None and delivery is not None and delivery.value == "exactly_once":
            found.add((sources.get(step.pipeline), step.sink))
    return found


def _check_idempotent(
    step: StepNode, configs: Configs, problems: Problems, *, in_transaction: bool
) -> None:
    """Refuse a key where what was published can be undone afterwards: it would then be missing."""
    entry = step.config.entries.get("idempotent")
    if entry is None:
        return
    traits = traits_of(configs.modules.get(step.sink or ""))
    if in_transaction:
        problems.add(
            entry.key.place,
            f"step {step.name} can't be idempotent: what it publishes to {step.sink} is part of a "
            "Kafka transaction, and its key would stand when that is aborted.",
            code="publish_idempotent",
            hint="Take it out: the transaction repeats nothing. To drop duplicates, give the pipeline"
            " idempotency.",
            width=entry.key.width,
        )
    elif traits is not None and traits.delivery != "at_least_once":
        problems.add(
            entry.key.place,
            f"step {step.name} can't be idempotent: after a crash {step.sink} undoes what was not "
            "settled, and its key would stand.",
            code="publish_idempotent",
            hint="Take it out: this sink repeats nothing. To drop duplicates, give the pipeline"
            " idempotency.",
            width=entry.key.width,
        )
