"""`step.foreach`: steps for each item of a list; modelled and validated, not built yet."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AliasChoices, Field

from connectors.settings import Path, Settings
from transforms.contracts import StepType
from transforms.steps.substeps import SubStep


class ForeachSettings(Settings):
    """Configuration of `step.foreach`."""

    collection: Path
    """Where the list is, such as `data.items`."""
    item_var: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] = Field(
        default="item", validation_alias=AliasChoices("item_var", "item_key")
    )
    """Name under which the steps find the item."""
    index_key: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] = "index"
    """Name under which the steps find the item's number, from 0."""
    concurrency: Annotated[int, Ge(1), Le(1000)] = 1
    """Items under way at the same time."""
    error_strategy: Literal["fail_fast", "collect_errors"] = "fail_fast"
    """Whether the first item that fails ends the loop, or all run and the output tells."""
    steps: Annotated[list[SubStep], MinLen(1)]
    """The steps that run for each item, in order."""


FOREACH = StepType("step.foreach", ForeachSettings, "Run steps for each item of a list.")
