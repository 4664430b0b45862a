"""`step.http_call`: an HTTP request per event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transforms.contracts import StepEnvironment, StepType
from transforms.steps.http_settings import HttpCallSettings

if TYPE_CHECKING:
    from transforms.steps.http_step import HttpCallStep


def _make(settings: HttpCallSettings, environment: StepEnvironment) -> HttpCallStep:
    from transforms.steps.http_step import HttpCallStep  # noqa: PLC0415 - see below

    return HttpCallStep(settings, environment)


HTTP_CALL = StepType(
    "step.http_call",
    HttpCallSettings,
    "Make an HTTP request.",
    make=_make,  # the client takes longer to import than a flow to read
    effect=True,
)
