"""`step.branch`: other steps for other values; modelled and validated, not built yet."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MinLen
from pydantic import Field

from connectors.settings import Path, Settings
from transforms.contracts import StepType
from transforms.steps.substeps import SubStep


class BranchSettings(Settings):
    """Configuration of `step.branch`."""

    field: Path
    """Where the value is that decides, such as `steps.check.output.tier`."""
    branches: Annotated[dict[str, Annotated[list[SubStep], MinLen(1)]], MinLen(1)]
    """The value as text → the steps that run for it. The others don't."""
    default: list[SubStep] = Field(default=[])
    """Steps that run for every other value."""
    merge_step: str | None = None
    """Later step where all branches go on; default: the step after this one."""


BRANCH = StepType("step.branch", BranchSettings, "Run other steps for other values.")
