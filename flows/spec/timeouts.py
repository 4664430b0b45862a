"""Refuses `timeout:` on steps that can't be given up on half-way, and says why."""

from __future__ import annotations

from flows.spec.configs import Configs, StepNode
from flows.spec.nodes import Scalar
from flows.spec.problems import Problems


def check_timeouts(configs: Configs, problems: Problems) -> None:
    """Check every step that has one. Those whose type has a `timeout` of its own keep it."""
    for step in configs.every_step():
        entry = step.node.entries.get("timeout")
        if entry is None or (isinstance(entry.value, Scalar) and entry.value.value is None):
            continue
        if step.kind is None or "timeout" in step.kind.settings.model_fields:
            continue
        reason, hint = _why(step)
        problems.add(
            entry.key.place,
            f"{step.name} can't have a timeout: {reason}.",
            code="timeout_unsupported",
            hint=hint,
            width=entry.key.width,
        )


def _why(step: StepNode) -> tuple[str, str]:
    if step.inner:
        return (
            "it would end in the middle of the steps inside it",
            "Give those of them a timeout that wait for a server.",
        )
    if step.type == "step.publish":
        return (
            "whether an event that it gives up on was published, nobody could tell",
            "It waits until its sink has confirmed. Sinks have timeouts of their own.",
        )
    if step.type == "step.python":
        return (
            "Python can't be interrupted in the middle of a function",
            "Set the timeouts of the clients that the function uses.",
        )
    return (
        f"{step.type} computes, and is not interrupted in the middle of it",
        "Steps that wait for a server can have one: step.http_call, step.db_query, …",
    )
