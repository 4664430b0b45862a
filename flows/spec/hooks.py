"""Checks what answers HTTP requests: each path is one source's, and an answer has somebody waiting."""

from __future__ import annotations

from connectors.http.routes import shape_of
from connectors.http.settings import HttpSourceSettings
from flows.spec.configs import Configs, ModuleNode
from flows.spec.nodes import Mapping, Scalar
from flows.spec.problems import Problems

ANSWERING = "step.json_response"


def check_hooks(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check the flow's `source.http` modules and the steps that answer."""
    _check_paths(configs, problems)
    sources = _sources(tree)
    for step in configs.every_step():
        if step.type != ANSWERING or step.pipeline not in sources:
            continue
        module = configs.modules.get(sources[step.pipeline])
        settings = module.settings if module else None
        if module is None or (module.kind is not None and settings is None):
            continue  # it is wrong itself
        if isinstance(settings, HttpSourceSettings) and settings.respond == "settled":
            continue
        if isinstance(settings, HttpSourceSettings):
            hint = f"Add respond: settled to the config of {module.name}: it answers 202 at once."
        else:
            hint = "Only requests to a source.http with respond: settled wait for an answer."
        problems.add(
            step.node.place,
            f"nobody waits for the answer of {step.name}.",
            code="answer_unheard",
            hint=hint,
            width=step.node.width,
        )


def _check_paths(configs: Configs, problems: Problems) -> None:
    taken: dict[tuple[str, str], ModuleNode] = {}
    for module in configs.modules.values():
        settings = module.settings
        if not isinstance(settings, HttpSourceSettings):
            continue
        for method in settings.methods:
            first = taken.setdefault((method, shape_of(settings.path)), module)
            if first is module:
                continue
            entry = module.config.entries.get("path")
            place = module.node.place if entry is None else entry.value.place
            problems.add(
                place,
                f"{method} {settings.path} is {first.name}'s already.",
                code="path_taken",
                hint="Give each source.http a path of its own, or let one trigger both pipelines.",
            )
            break


def _sources(tree: Mapping) -> dict[str, str]:
    """Return pipeline → the module that triggers it."""
    found = {}
    pipelines = tree.mapping("pipelines")
    for name, entry in pipelines.entries.items() if pipelines else ():
        trigger = entry.value.mapping("trigger") if isinstance(entry.value, Mapping) else None
        source = trigger.get("source") if trigger else None
        if isinstance(source, Scalar):
            found[name] = str(source.value)
    return found
