"""`step.request_parse` and `step.json_response`: for pipelines that answer HTTP requests.

Modelled and validated, not built yet.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field, model_validator
from typing_extensions import Self

from connectors.settings import Path, Settings, Template, TemplateValue
from transforms.contracts import StepType


class RequestParseSettings(Settings):
    """Configuration of `step.request_parse`."""

    path_params: list[str] = Field(default=[])
    """Parameters of the path to take over, such as `id` in `/orders/{id}`."""
    query_params: list[str] = Field(default=[])
    """Parameters of the query to take over."""
    parse_headers: list[str] = Field(default=[])
    """Headers to take over."""
    parse_body: bool = False
    """Whether the body is taken over."""
    format: Literal["auto", "json", "form", "text"] = "auto"
    """What the body holds; `auto` goes by its content type."""
    merge_body: bool = False
    """Whether the body's fields stand beside the parameters, and not under `body`."""


class JsonResponseSettings(Settings):
    """Configuration of `step.json_response`."""

    status: Annotated[int, Ge(100), Le(599)] = 200
    """The answer's status."""
    status_from: Path | None = None
    """Where in the context the status is; wins over `status`."""
    headers: dict[str, Template] = Field(default={})
    """The answer's headers."""
    body: TemplateValue = None
    """The answer's body."""
    body_from: Path | None = None
    """Where in the context the body is."""

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.body_from is not None:
            raise ValueError("body or body_from, not both")
        return self


REQUEST_PARSE = StepType(
    "step.request_parse", RequestParseSettings, "Take parameters and body from an HTTP request."
)
JSON_RESPONSE = StepType(
    "step.json_response",
    JsonResponseSettings,
    "Answer an HTTP request with JSON.",
    effect=True,
    has_output=False,
)
