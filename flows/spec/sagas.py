"""Checks sagas: that what is written about undoing steps is in force, or switched off in so many words."""

from __future__ import annotations

from flows.spec.configs import Configs
from flows.spec.nodes import Mapping
from flows.spec.problems import Problems


def check_sagas(tree: Mapping, configs: Configs, problems: Problems) -> None:
    """Check every pipeline's `saga` and its steps' `compensate`."""
    pipelines = tree.mapping("pipelines")
    for name, entry in pipelines.entries.items() if pipelines else ():
        if not isinstance(entry.value, Mapping):
            continue
        saga = entry.value.mapping("saga")
        if saga is None:
            _check_steps(name, configs, problems)
        elif "enabled" not in saga.entries and saga.entries:
            at = entry.value.entries["saga"].key
            problems.add(
                at.place,
                f"the saga of pipeline {name} is not enabled.",
                code="saga_not_enabled",
                hint="Add enabled: true to it; or enabled: false, to keep it switched off.",
                width=at.width,
            )


def _check_steps(pipeline: str, configs: Configs, problems: Problems) -> None:
    for step in configs.steps.get(pipeline, []):
        if step.node.mapping("compensate") is None:
            continue
        at = step.node.entries["compensate"].key
        problems.add(
            at.place,
            f"step {step.name} has a compensation, and pipeline {pipeline} has no saga to run it.",
            code="saga_not_enabled",
            hint="Add saga: {enabled: true} to the pipeline.",
            width=at.width,
        )
