"""Finds steps by the `type:` that flow files write: see connectors.registry.

Group `penstock.steps`: the entry point's name is the type, its value a `StepType`.
"""

from __future__ import annotations

from connectors.registry import Registry
from transforms.contracts import StepType

_STEPS = Registry("penstock.steps", StepType, "step", "transforms/contracts.py")


def step_types() -> list[str]:
    """Return every known step `type:`, sorted."""
    return _STEPS.names()


def step_type(name: str) -> StepType | None:
    """Return the step of that type, or None when no package provides it.

    Raises FlowFileError when its package is there and can't be imported.
    """
    return _STEPS.get(name)
