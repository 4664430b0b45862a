"""What a flow uses that this release reads and checks, but does not execute yet.

Values that say what happens anyway (`order: key`, `saga: {enabled: false}`) are fine.
"""

from __future__ import annotations

from collections.abc import Iterator

from connectors.contracts import ConnectorType
from flows.spec.check import CheckedFlow
from flows.spec.configs import ModuleNode, StepNode
from flows.spec.nodes import Mapping, Node, Scalar
from flows.spec.problems import Place, Problem

_HINT = (
    "This release reads and checks it, but does not execute it yet: take it out to run the flow."
)

Use = tuple[str, Place, int]
"""What is used, and where (place, width)."""


def find_not_built(flow: CheckedFlow) -> list[Problem]:
    """Return what `run` must refuse, in the order of files and lines."""
    uses = [*_top_level(flow.tree), *_modules(flow), *_pipelines(flow), *_steps(flow)]
    found = [
        flow.problems.make(
            place, f"{what} is not built yet.", code="not_built", hint=_HINT, width=width
        )
        for what, place, width in dict.fromkeys(uses)
    ]
    order = {file: number for number, file in enumerate(flow.problems.files())}
    return sorted(found, key=lambda p: (order.get(p.file, -1), p.line, p.column))


def _top_level(tree: Mapping) -> Iterator[Use]:
    for name in ("scale", "isolation", "alerts"):
        if tree.get(name) is not None and not _is_empty(tree.get(name)):
            yield _at(tree, name, name)


def _modules(flow: CheckedFlow) -> Iterator[Use]:
    pipelines = flow.model.pipelines.values()
    read = {pipeline.trigger.source for pipeline in pipelines if pipeline.trigger is not None}
    for module in flow.configs.modules.values():
        kind = module.kind
        of_step = kind is not None and not isinstance(kind, ConnectorType)
        if module.node.mapping("retry") is not None and not of_step:
            yield _at(module.node, "retry", "retry (of a module)")
        if module.node.mapping("archive") is not None and module.name not in read:
            yield _at(module.node, "archive", "archive of a module that no pipeline reads from")
        if kind is None:
            continue
        if isinstance(kind, ConnectorType):
            built = kind.source is not None or kind.sink is not None
        else:
            built = kind.make is not None
        if not built:
            yield _at(module.node, "type", kind.name, of_value=True)
        yield from _in_config(module)


def _pipelines(flow: CheckedFlow) -> Iterator[Use]:
    pipelines = flow.tree.mapping("pipelines")
    for pipeline, entry in pipelines.entries.items() if pipelines else ():
        node = entry.value
        if not isinstance(node, Mapping):
            continue
        trigger = node.mapping("trigger")
        if not _is_empty(node.get("partition_by")) and (
            trigger is None or _is_empty(trigger.get("source"))
        ):
            yield _at(node, "partition_by", "partition_by of a pipeline without a source")
        if not _is_empty(node.get("partition_by")) and _holds_partitions(flow, pipeline, node):
            yield _at(node, "order", "partition_by with order: partition")
        saga = node.mapping("saga")
        enabled = saga is not None and _is_true(saga.get("enabled"))
        if enabled and not _is_empty(node.get("partition_by")):
            yield _at(node, "partition_by", "partition_by with saga")


def _holds_partitions(flow: CheckedFlow, pipeline: str, node: Mapping) -> bool:
    """Whether executions may have to wait that hold back a partition, of which other processes have parts."""
    order = node.text("order")
    if order is None or order.value != "partition":
        return False
    if _retries(node) or not _is_empty(node.get("idempotency")):
        return True
    steps = [step.settings for step in flow.configs.every_step() if step.pipeline == pipeline]
    may_wait = ("idempotent", "may_hold")
    return any(getattr(settings, name, False) for settings in steps for name in may_wait)


def _retries(pipeline: Mapping) -> bool:
    steps = [step for step in pipeline.items("steps") if isinstance(step, Mapping)]
    return any(not _is_empty(node.get("retry")) for node in (pipeline, *steps))


def _steps(flow: CheckedFlow) -> Iterator[Use]:
    for step in flow.configs.every_step():
        if step.kind is not None and step.kind.make is None:
            key = "type" if step.node.get("type") is not None else "use"
            yield _at(step.node, key, step.type, of_value=True)
        yield from _in_config(step)


def _in_config(part: ModuleNode | StepNode) -> Iterator[Use]:
    """Yield the keys of a config that later releases will execute."""
    config = part.config
    # A connector or step can tell which of its settings are not built: as `key: value`.
    tell = getattr(part.settings, "not_built", None)
    for what in tell() if callable(tell) else ():
        yield _at(config, what.partition(":")[0], what)


def _at(parent: Mapping, key: str, what: str, *, of_value: bool = False) -> Use:
    entry = parent.entries.get(key)
    if entry is None:
        return what, parent.place, parent.width
    scalar = entry.value if of_value and isinstance(entry.value, Scalar) else entry.key
    return what, scalar.place, scalar.width


def _is_true(node: Node | None) -> bool:
    return isinstance(node, Scalar) and str(node.value).lower() in {"true", "1", "yes", "on"}


def _is_empty(node: Node | None) -> bool:
    match node:
        case None:
            return True
        case Scalar():
            return node.value is None
        case Mapping():
            return False
        case _:
            return not node.items
