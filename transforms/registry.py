"""Finds steps by the `type:` that flow files write, through entry points.

Group `penstock.steps`: the entry point's name is the type, its value a `StepType`. Only the
type asked for is imported.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from connectors.errors import FlowFileError
from transforms.contracts import StepType

GROUP = "penstock.steps"


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def step_types() -> list[str]:
    """Return every known step `type:`, sorted."""
    return sorted(_entry_points())


@cache
def step_type(name: str) -> StepType | None:
    """Return the step of that type, or None when no package provides it.

    Raises FlowFileError when its package is there and can't be imported.
    """
    point = _entry_points().get(name)
    if point is None:
        return None
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise FlowFileError(
            f"the step {name} can't be imported: {error}.",
            code="step_import",
            hint=f"It comes from {point.value}; install what it needs.",
        ) from error
    if not isinstance(found, StepType):
        raise FlowFileError(
            f"the entry point {name} = {point.value} is not a StepType.",
            code="step_import",
            hint="See transforms/contracts.py.",
        )
    return found
