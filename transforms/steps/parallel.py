"""`step.parallel`: steps side by side; modelled and validated, not built yet."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MinLen

from connectors.settings import Settings
from transforms.contracts import StepType
from transforms.steps.substeps import SubStep


class ParallelSettings(Settings):
    """Configuration of `step.parallel`."""

    steps: Annotated[list[SubStep], MinLen(1)]
    """The steps, each with a name; none sees another's output."""
    error_strategy: Literal["fail_fast", "collect_errors"] = "fail_fast"
    """Whether the first step that fails ends the others, or all run and the output tells."""


PARALLEL = StepType("step.parallel", ParallelSettings, "Run steps side by side.")
