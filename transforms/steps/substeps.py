"""Steps inside steps: what branch, foreach and parallel run."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from connectors.settings import Settings


class SubStep(Settings):
    """One step of a branch or a loop."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")] | None = None
    """The step's name; later ones read its output by it."""
    type: Annotated[str, Field(pattern=r"^step\.[a-z_]+$")]
    """Type of step, such as `step.jq`."""
    config: dict[str, Any] = Field(default={})
    """The step's own settings; see its type."""
