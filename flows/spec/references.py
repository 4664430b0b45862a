"""Checks that what a flow refers to is there: modules, schemas, steps, pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from connectors.contracts import ConnectorType
from connectors.errors import PenstockError
from flows.spec.configs import Configs, ModuleNode, StepNode
from flows.spec.nodes import Mapping, Node, Scalar
from flows.spec.problems import Problems, did_you_mean
from flows.spec.schemas import WITHOUT_VERSION, declared, version_of
from schema_registry.subjects import split_key

_JUMPING = ("step.conditional", "step.branch")
"""Steps that name later steps in their config."""


def check_references(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check every reference of the flow and resolve the sinks of its publish steps."""
    schemas = schema_names(tree)
    pipelines = tree.mapping("pipelines")
    for name, entry in pipelines.entries.items() if pipelines else ():
        if isinstance(entry.value, Mapping):
            _check_trigger(entry.value, configs, schemas, problems)
            _check_dead_letter_sink(entry.value, configs, problems)
            _check_steps(configs.steps.get(name, []), problems)
    for step in configs.every_step():
        for steps in step.inner.values():
            _check_steps(steps, problems)
        if step.type in {"step.publish", "step.validate"}:
            _check_schema(step.config.text("schema"), schemas, problems)
        if step.type == "step.publish":
            step.sink = _resolve_sink(step, configs, problems)
    _check_alerts(tree, configs, problems)


def schema_names(tree: Mapping) -> set[str]:
    """Return what a reference to a schema may be: each `name` and `name@version`."""
    names: set[str] = set()
    for key, entry in declared(tree).items():
        subject = split_key(key)[0]
        names |= {subject, f"{subject}@{version_of(key, entry) or WITHOUT_VERSION}"}
    return names


def _unknown(
    what: str, at: Scalar, valid: list[str], problems: Problems, *, none: str, code: str
) -> None:
    problems.add(
        at.place,
        f"there is no {what} {at.value}.",
        code=code,
        hint=did_you_mean(at.value, valid, none=none),
        width=at.width,
    )


def _check_trigger(
    pipeline: Mapping, configs: Configs, schemas: set[str], problems: Problems
) -> None:
    trigger = pipeline.mapping("trigger")
    if trigger is None:
        return
    _check_schema(trigger.text("schema"), schemas, problems)
    source = trigger.text("source")
    if source is None:
        return
    sources = [name for name, found in configs.modules.items() if found.is_source]
    module = _module(
        source, "source", "source.postgres_cdc", sources, configs=configs, problems=problems
    )
    if module is None or not module.is_source:
        return
    if module.settings is not None and not _has_something_to_read(module.settings):
        problems.add(
            source.place,
            f"{source.value} names no topics to read.",
            code="missing_key",
            hint=f"Add topics: [...] to its config at {module.node.place}.",
            width=source.width,
        )


def _module(
    name: Scalar,
    role: str,
    example: str,
    valid: list[str],
    *,
    configs: Configs,
    problems: Problems,
) -> ModuleNode | None:
    """Return the module of that name; adds a problem when there is none, or it is no `role`."""
    module = configs.modules.get(name.value)
    none = f"Declare it under modules:, with a type such as {example}."
    if module is None:
        _unknown("module", name, valid, problems, none=none, code="unknown_module")
    elif module.kind is not None and name.value not in valid:
        problems.add(
            name.place,
            f"{name.value} is a {module.kind.name}, not a {role}.",
            code="wrong_module",
            hint=did_you_mean(name.value, valid, none=none),
            width=name.width,
        )
    return module


def _has_something_to_read(settings: Any) -> bool:
    names = ("topics", "topics_regex", "topic")
    asked = [getattr(settings, name) for name in names if hasattr(settings, name)]
    return not asked or any(asked)


def _check_schema(reference: Scalar | None, schemas: set[str], problems: Problems) -> None:
    if reference is not None and reference.value not in schemas:
        _unknown(
            "schema",
            reference,
            sorted(name for name in schemas if "@" not in name or "@" in reference.value),
            problems,
            none="Declare it under schemas:.",
            code="unknown_schema",
        )


def _check_dead_letter_sink(pipeline: Mapping, configs: Configs, problems: Problems) -> None:
    dead_letter = pipeline.mapping("dead_letter")
    sink = dead_letter.text("sink") if dead_letter else None
    if dead_letter is None or sink is None:
        return
    enabled = dead_letter.get("enabled")
    if isinstance(enabled, Scalar) and enabled.value is False:
        problems.add(
            sink.place,
            "there is nothing to copy to it: dead_letter.enabled is false, so the source stops at an"
            " event that fails.",
            code="dead_letter_sink_unused",
            hint="Take one of the two out.",
            width=sink.width,
        )
    module = _check_sink(sink, configs, problems)
    missing = _needs_topic(module.settings) if module is not None and module.is_sink else ""
    if missing and module is not None:
        problems.add(
            sink.place,
            f"{module.name} has no {missing}, so dead letters have nowhere to go in it.",
            code="missing_key",
            hint=f"Add {missing}: to its config; or name a sink module of its own for dead letters.",
            width=sink.width,
        )


def _check_sink(sink: Scalar, configs: Configs, problems: Problems) -> ModuleNode | None:
    sinks = [name for name, found in configs.modules.items() if found.is_sink]
    return _module(sink, "sink", "sink.kafka", sinks, configs=configs, problems=problems)


def _resolve_sink(step: StepNode, configs: Configs, problems: Problems) -> str | None:
    """Return the sink module that a publish step goes to; adds a problem when that is not clear."""
    named = step.config.text("sink")
    topic = step.config.get("topic")
    at = topic if isinstance(topic, Scalar) else step.node.text("name")
    place, width = (at.place, at.width) if at else (step.node.place, 1)
    if named is not None:
        module = _check_sink(named, configs, problems)
    else:
        sinks = [found for found in configs.modules.values() if found.is_sink]
        carriers = [found for found in sinks if _carries_topics(found)] if topic else []
        candidates = carriers or sinks
        if len(candidates) != 1:
            listed = ", ".join(found.name for found in candidates)
            problems.add(
                place,
                f"{step.name} does not say where to publish, and several sinks could take it: "
                f"{listed}."
                if candidates
                else f"{step.name} publishes, but no sink is declared.",
                code="sink_unclear" if candidates else "unknown_module",
                hint="Name one: sink: <module>."
                if candidates
                else "Declare one under modules:, with a type such as sink.kafka.",
                width=width,
            )
            return None
        module = candidates[0]
    if module is None:
        return None
    missing = _needs_topic(module.settings) if topic is None else ""
    if missing:
        problems.add(
            place,
            f"{step.name} names no topic, and its sink {module.name} has no {missing} either.",
            code="missing_key",
            hint="Add topic: to the step's config.",
            width=width,
        )
    return module.name


def _carries_topics(module: ModuleNode) -> bool:
    """Whether one sink module carries many topics."""
    kind, settings = module.kind, module.settings
    if not isinstance(kind, ConnectorType) or settings is None:
        return False
    if kind.sink is not None:
        with suppress(PenstockError):  # what is wrong with it is said when it is opened
            return kind.sink(module.name, settings).traits.topics
    return any(name in type(settings).model_fields for name in ("topic", "stream"))


def _needs_topic(settings: Any) -> str:
    """Return the key by which a sink would know where to publish, if it is not set."""
    for name in ("topic", "stream", "url"):
        if hasattr(settings, name):
            return "" if getattr(settings, name) else name
    return ""


def _check_steps(steps: list[StepNode], problems: Problems) -> None:
    """Check names and jumps of the steps of one list: a pipeline's, or one inside a step."""
    numbers: dict[str, int] = {}
    named: dict[str, StepNode] = {}
    for number, step in enumerate(steps):
        numbers.setdefault(step.name, number)
        # Branches of one step may use a name twice: only one of them runs for an event.
        for one in {each.name: each for each in (*_sharing_names(step), step)}.values():
            first = named.setdefault(one.name, one)
            if first is not one:
                at = one.node.text("name")
                place, width = (at.place, at.width) if at else (one.node.place, 1)
                problems.add(
                    place,
                    f"step {one.name} is there twice; the first is on line "
                    f"{first.node.place.line}.",
                    code="duplicate_step",
                    hint="Steps of one pipeline have different names.",
                    width=width,
                )
    for number, step in enumerate(steps):
        if step.type in _JUMPING:
            later = [other.name for other in steps[number + 1 :]]
            for target in _jumps(step.config):
                _check_jump(step, target, later, numbers, problems)


def _sharing_names(step: StepNode) -> Iterator[StepNode]:
    """Yield the steps inside a step whose outputs stand among those beside it."""
    if step.kind is not None and step.kind.shares_names:
        for steps in step.inner.values():
            for inner in steps:
                yield inner
                yield from _sharing_names(inner)


def _jumps(config: Mapping) -> list[Scalar]:
    routes = config.mapping("routes")
    targets: list[Node | None] = (
        [entry.value for entry in routes.entries.values()] if routes else []
    )
    targets += [config.get(name) for name in ("default", "then", "else", "merge_step")]
    return [target for target in targets if isinstance(target, Scalar) and target.is_text()]


def _check_jump(
    step: StepNode, target: Scalar, later: list[str], numbers: dict[str, int], problems: Problems
) -> None:
    if target.value in later:
        return
    if target.value in numbers:
        problems.add(
            target.place,
            f"{step.name} jumps back to {target.value}; a route leads to a later step.",
            code="jump_backwards",
            hint=did_you_mean("", later, none="No step comes after it."),
            width=target.width,
        )
    else:
        none = "No step comes after it."
        _unknown("step", target, later, problems, none=none, code="unknown_step")


def _check_alerts(tree: Mapping, configs: Configs, problems: Problems) -> None:
    pipelines = tree.mapping("pipelines")
    known = list(pipelines.entries) if pipelines else []
    names: dict[str, Scalar] = {}
    for alert in tree.items("alerts"):
        if not isinstance(alert, Mapping):
            continue
        name = alert.text("name")
        if name is not None and names.setdefault(name.value, name) is not name:
            problems.add(
                name.place,
                f"alert {name.value} is there twice: here and at {names[name.value].place}.",
                code="flow_clash",
                hint="Delete or rename one of them.",
                width=name.width,
            )
        pipeline, step = alert.text("pipeline"), alert.text("step")
        if pipeline is None:
            continue
        if pipeline.value not in known:
            none = "No pipeline is declared."
            _unknown("pipeline", pipeline, known, problems, none=none, code="unknown_pipeline")
        elif step is not None:
            steps = [found.name for found in configs.steps.get(pipeline.value, [])]
            if step.value not in steps:
                none = "It has no steps."
                _unknown("step", step, steps, problems, none=none, code="unknown_step")
