"""Finds what the modules and steps of a flow are, and validates each `config` by its type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import ValidationError

from connectors.contracts import ConnectorType
from connectors.errors import FlowFileError
from connectors.registry import connector_type, connector_types
from connectors.settings import Settings
from flows.spec.nodes import Mapping, Node, Scalar, Sequence, merged, plain
from flows.spec.problems import Problems, did_you_mean
from flows.spec.shape import keys, mappings_of
from flows.spec.wording import report
from transforms.contracts import StepType
from transforms.registry import step_type, step_types
from transforms.steps.substeps import SubStep


@dataclass(slots=True)
class ModuleNode:
    """One entry of `modules:` with what its type makes of it."""

    name: str
    node: Mapping
    kind: ConnectorType | StepType | None
    """None when its type is not known."""
    config: Mapping
    settings: Settings | None
    """None when its config is not valid, and for step modules that leave keys to their users."""

    @property
    def is_source(self) -> bool:
        """Whether pipelines can be triggered by it."""
        kind = self.kind
        return isinstance(kind, ConnectorType) and (
            kind.source is not None or "source" in kind.roles
        )

    @property
    def is_sink(self) -> bool:
        """Whether publish steps can name it."""
        kind = self.kind
        return isinstance(kind, ConnectorType) and (kind.sink is not None or "sink" in kind.roles)


@dataclass(slots=True)
class StepNode:
    """One step, or the step that compensates one, with what its type makes of it."""

    pipeline: str
    name: str
    node: Mapping
    kind: StepType | None
    config: Mapping
    """Its own config over that of the module it uses."""
    settings: Settings | None
    sink: str | None = None
    """The sink module of a publish step, once it is resolved."""
    around: StepNode | None = None
    """The step that it stands in."""
    inner: dict[str, list[StepNode]] = field(default_factory=dict)
    """The lists of steps inside it, by their path in its config: `steps`, `branches.gold`."""

    @property
    def type(self) -> str:
        """Return the type's name, "" when it is not known."""
        return self.kind.name if self.kind else ""


@dataclass(slots=True)
class Configs:
    """All modules by name, and each pipeline's steps in order."""

    modules: dict[str, ModuleNode] = field(default_factory=dict)
    steps: dict[str, list[StepNode]] = field(default_factory=dict)
    compensations: list[StepNode] = field(default_factory=list)
    inner: list[StepNode] = field(default_factory=list)
    """The steps inside steps: of a branch, a loop."""

    def every_step(self) -> Iterator[StepNode]:
        """Yield all steps, compensations and inner steps."""
        for steps in self.steps.values():
            yield from steps
        yield from self.compensations
        yield from self.inner


def read_configs(tree: Mapping, problems: Problems) -> Configs:
    """Return the flow's modules and steps; what is wrong with types and configs to `problems`."""
    configs = Configs()
    used = {use for _, _, step in _step_mappings(tree) for use in _uses(step)}
    for node in tree.items("modules"):
        name = node.text("name") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or name is None:
            continue
        module = _module(name.value, node, problems, used=name.value in used)
        first = configs.modules.setdefault(module.name, module)
        if first is not module:
            problems.add(
                name.place,
                f"module {module.name} is there twice: here and at {first.node.place}.",
                code="flow_clash",
                hint="Delete or rename one of them.",
                width=name.width,
            )
    for pipeline, label, node in _step_mappings(tree):
        step = _step(pipeline, label, node, configs, problems)
        configs.steps.setdefault(pipeline, []).append(step)
        undo = node.mapping("compensate")
        if undo is not None:
            configs.compensations.append(_step(pipeline, label, undo, configs, problems))
    outer = list(configs.every_step())
    while outer:
        outer = [inner for step in outer for inner in _inner_steps(step, configs, problems)]
        configs.inner.extend(outer)
    return configs


def _inner_steps(step: StepNode, configs: Configs, problems: Problems) -> list[StepNode]:
    if step.kind is None:
        return []
    found = []
    for path, node in mappings_of(SubStep, step.kind.settings, step.config):
        name, number = node.text("name"), path[-1]
        label = name.value if name else default_name(int(number))
        made = _step(step.pipeline, label, node, configs, problems)
        made.around = step
        step.inner.setdefault(".".join(map(str, path[:-1])), []).append(made)
        found.append(made)
    return found


def default_name(number: int) -> str:
    """Return the name of a step inside a step that has none, by its place in the list (0, 1, …)."""
    return f"step-{number + 1}"


def _uses(node: Node) -> Iterator[str]:
    """Yield what stands under `use` anywhere in a step: in `compensate`, in steps inside it."""
    match node:
        case Mapping():
            use = node.text("use")
            if use is not None:
                yield use.value
            for entry in node.entries.values():
                yield from _uses(entry.value)
        case Sequence():
            for item in node.items:
                yield from _uses(item)


def _step_mappings(tree: Mapping) -> Iterator[tuple[str, str, Mapping]]:
    """Yield (pipeline, step name, node) of every step."""
    pipelines = tree.mapping("pipelines")
    for pipeline, entry in pipelines.entries.items() if pipelines else ():
        if not isinstance(entry.value, Mapping):
            continue
        for number, node in enumerate(entry.value.items("steps"), 1):
            if isinstance(node, Mapping):
                name = node.text("name")
                yield pipeline, name.value if name else f"step {number}", node


def _module(name: str, node: Mapping, problems: Problems, *, used: bool) -> ModuleNode:
    kind = node.text("type")
    found = known_type(kind, problems) if kind else None
    config = _config(node)
    settings = None
    if found is not None and config is not None:
        settings = _validate(found.settings, config, problems, partial=used)
    return ModuleNode(name, node, found, config or Mapping(node.place), settings)


def _step(
    pipeline: str, name: str, node: Mapping, configs: Configs, problems: Problems
) -> StepNode:
    kind, use = node.text("type"), node.text("use")
    config = _config(node)
    found: StepType | None = None
    if kind is not None and use is None:
        found = _known_step(kind, problems)
    elif use is not None and kind is None:
        module = _used_module(use, configs, problems)
        if module is not None and isinstance(module.kind, StepType):
            found = module.kind
            _refuse_shared(found, use.value, config, problems)
            config = merged(module.config, config) if config is not None else None
    settings = None
    if found is not None and config is not None:
        settings = _validate(found.settings, config, problems)
    return StepNode(pipeline, name, node, found, config or Mapping(node.place), settings)


def _refuse_shared(kind: StepType, module: str, config: Mapping | None, problems: Problems) -> None:
    """Refuse what only the module can say, since it holds for all its users together."""
    for name in kind.shared:
        entry = config.entries.get(name) if config is not None else None
        if entry is not None:
            problems.add(
                entry.key.place,
                f"{name} holds for all steps that use {module} together: a step can't set it.",
                code="shared_setting",
                hint=f"Set it in the config of the module {module}.",
                width=entry.key.width,
            )


def _config(node: Mapping) -> Mapping | None:
    """Return the config, an empty one when there is none; None when it is no mapping."""
    entry = node.entries.get("config")
    if entry is None:
        return Mapping(node.place)
    value = entry.value
    if isinstance(value, Mapping):
        return Mapping(entry.key.place, value.entries, entry.key.width)
    return None


def _validate(
    model: type[Settings], config: Mapping, problems: Problems, *, partial: bool = False
) -> Settings | None:
    try:
        return model.model_validate(plain(config))
    except ValidationError as error:
        report(error, model, config, problems, name="config", ignore_missing=partial)
        return None


def known_type(kind: Scalar, problems: Problems) -> ConnectorType | StepType | None:
    """Return the connector or step of that type; adds a problem when there is none."""
    name: str = kind.value
    try:
        found = step_type(name) if name.startswith("step.") else connector_type(name)
    except FlowFileError as error:
        problems.add(kind.place, error.message, code=error.code, hint=error.hint, width=kind.width)
        return None
    if found is None:
        problems.add(
            kind.place,
            f"there is no type {name}.",
            code="unknown_type",
            hint=did_you_mean(name, [*connector_types(), *step_types()]),
            width=kind.width,
        )
    return found


def _known_step(kind: Scalar, problems: Problems) -> StepType | None:
    name: str = kind.value
    if name.startswith("step."):
        found = known_type(kind, problems)
        return found if isinstance(found, StepType) else None
    hint = did_you_mean(f"step.{name}", step_types())
    if name in connector_types():
        hint = "Declare it under modules: and publish to it with a step of type step.publish."
    problems.add(
        kind.place,
        f"{name} is no type of step.",
        code="unknown_type",
        hint=hint,
        width=kind.width,
    )
    return None


def _used_module(use: Scalar, configs: Configs, problems: Problems) -> ModuleNode | None:
    module = configs.modules.get(use.value)
    steps = [
        name for name, candidate in configs.modules.items() if isinstance(candidate.kind, StepType)
    ]
    if module is None:
        problems.add(
            use.place,
            f"there is no module {use.value}.",
            code="unknown_module",
            hint=did_you_mean(use.value, steps, none="No step module is declared."),
            width=use.width,
        )
    elif module.kind is not None and not isinstance(module.kind, StepType):
        problems.add(
            use.place,
            f"{use.value} is a {module.kind.name}, not a step.",
            code="wrong_module",
            hint=did_you_mean(use.value, steps, none="No step module is declared."),
            width=use.width,
        )
    return module


def belongs_to_config(parent: Node, key: str) -> str:
    """Return a hint when an unknown key of a module or step is one of its config."""
    kind = parent.text("type") if isinstance(parent, Mapping) else None
    if kind is None:
        return ""
    try:
        name = kind.value
        found = step_type(name) if name.startswith("step.") else connector_type(name)
    except FlowFileError:
        return ""
    if found is not None and key in keys(found.settings):
        return f"It belongs under config: of this {name}."
    return ""
