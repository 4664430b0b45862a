"""Checks `delivery: exactly_once`: what one transaction can hold, and what it can't.

One transaction is one producer's, on one cluster: the source's positions and whatever is published go
there. So all exactly-once pipelines of a source publish through one module, on the source's cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from connectors.contracts import ConnectorType
from flows.spec.configs import Configs, ModuleNode, StepNode
from flows.spec.nodes import Mapping, Scalar
from flows.spec.problems import Problems

_ELSEWHERE = "Put it into a pipeline of its own, with delivery: at_least_once."


def check_exactly_once(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check every pipeline that asks for it; sinks of publish steps must be resolved."""
    found = _pipelines(tree)
    through: dict[str, str] = {}
    for name, pipeline in found.items():
        delivery = pipeline.text("delivery")
        if delivery is None or delivery.value != "exactly_once":
            continue
        source = _source(pipeline, configs)
        if source is None:
            _no_source(pipeline, delivery, problems)
            continue
        if _cluster(source) is None:
            _add(
                delivery,
                f"exactly_once needs a source with transactions, and {source.name} is a "
                f"{source.kind.name if source.kind else 'module of no known type'}.",
                problems,
                code="exactly_once_source",
                hint="Only Kafka has them. Elsewhere, let effects go by an idempotency key.",
            )
            continue
        _check_spreading(found, source.name, delivery, problems)
        _check_saga(pipeline, problems)
        steps = [step for step in _steps(configs, name) if step.type == "step.publish"]
        if not steps:
            _add(
                delivery,
                "exactly_once is about what a pipeline publishes, and this one publishes nothing.",
                problems,
                code="exactly_once_nothing",
                hint="Take it out, or add a step of type step.publish.",
            )
        for step in steps:
            _check_publish(step, source, configs, problems, through)


def _pipelines(tree: Mapping) -> dict[str, Mapping]:
    pipelines = tree.mapping("pipelines")
    entries = pipelines.entries.items() if pipelines else ()
    return {name: entry.value for name, entry in entries if isinstance(entry.value, Mapping)}


def _source(pipeline: Mapping, configs: Configs) -> ModuleNode | None:
    trigger = pipeline.mapping("trigger")
    named = trigger.text("source") if trigger else None
    return configs.modules.get(named.value) if named else None


def _no_source(pipeline: Mapping, delivery: Scalar, problems: Problems) -> None:
    trigger = pipeline.mapping("trigger")
    if trigger is not None and trigger.text("source") is not None:
        return  # it names one that is not there, which is said where it does
    _add(
        delivery,
        "exactly_once needs a source whose positions it can commit, and this pipeline has none.",
        problems,
        code="exactly_once_source",
        hint="Add trigger: {type: event, source: <a Kafka module>}.",
    )


def _cluster(module: ModuleNode) -> str | None:
    """Return the cluster whose transactions a module can take part in, as its config names it."""
    kind, settings = module.kind, module.settings
    if not isinstance(kind, ConnectorType) or kind.cluster is None:
        return None
    return "" if settings is None else kind.cluster(settings)


def _steps(configs: Configs, pipeline: str) -> Iterator[StepNode]:
    """Yield a pipeline's steps with those inside them."""
    waiting = list(configs.steps.get(pipeline, []))
    while waiting:
        step = waiting.pop(0)
        yield step
        waiting.extend(inner for steps in step.inner.values() for inner in steps)


def _check_spreading(
    pipelines: dict[str, Mapping], source: str, delivery: Scalar, problems: Problems
) -> None:
    """Refuse `partition_by`: its steps run in other processes, with producers of their own."""
    for name, other in pipelines.items():
        trigger = other.mapping("trigger")
        named = trigger.text("source") if trigger else None
        spread = other.text("partition_by")
        if named is not None and named.value == source and spread is not None:
            _add(
                delivery,
                f"exactly_once can't be together with partition_by (line {spread.place.line}): steps"
                f" of {name} would run in other processes than the transaction.",
                problems,
                code="exactly_once_spread",
                hint="Take partition_by out: --workers shares out the topic's partitions anyway.",
            )


def _check_saga(pipeline: Mapping, problems: Problems) -> None:
    """Refuse a saga: what it has stored of a step that published stands when the transaction falls."""
    saga = pipeline.mapping("saga")
    enabled = saga.get("enabled") if saga else None
    if isinstance(enabled, Scalar) and str(enabled.value).lower() in {"true", "1", "yes", "on"}:
        _add(
            enabled,
            "a saga stores its progress step by step, which an aborted transaction can't take back.",
            problems,
            code="exactly_once_saga",
            hint="Publish from a pipeline without one: let the saga's pipeline publish to a topic, at"
            " least once, and read that.",
        )


def _check_publish(
    step: StepNode,
    source: ModuleNode,
    configs: Configs,
    problems: Problems,
    through: dict[str, str],
) -> None:
    """`through`: source → the sink module that its transactions go through."""
    sink = configs.modules.get(step.sink or "")
    if sink is None:
        return
    at = step.config.text("sink") or step.node.text("name")
    if at is None:
        return
    own, cluster = _cluster(sink), _cluster(source)
    if own is None:
        _add(
            at,
            f"{step.name} publishes to {sink.name}, a {sink.kind.name if sink.kind else 'module'}: "
            "that can't be part of a Kafka transaction.",
            problems,
            code="exactly_once_sink",
            hint=_ELSEWHERE,
        )
        return
    if own != cluster and own and cluster:
        _add(
            at,
            f"{step.name} publishes to {sink.name}, whose brokers are not those of the source "
            f"{source.name}: a transaction is one cluster's.",
            problems,
            code="exactly_once_clusters",
            hint="If it is the same cluster, write the same brokers in both. Else: "
            + _ELSEWHERE[0].lower()
            + _ELSEWHERE[1:],
        )
        return
    first = through.setdefault(source.name, sink.name)
    if first != sink.name:
        _add(
            at,
            f"{step.name} publishes to {sink.name}, but the transactions of {source.name} go through "
            f"{first}.",
            problems,
            code="exactly_once_sinks",
            hint=f"Publish to {first}, with topic: on the step; a transaction is one producer's.",
        )


def _add(at: Scalar, message: str, problems: Problems, *, code: str, hint: str) -> None:
    problems.add(at.place, message, code=code, hint=hint, width=at.width)
