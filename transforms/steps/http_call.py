"""`step.http_call`: an HTTP request per event."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.contracts import Check
from transforms.contracts import StepEnvironment, StepType
from transforms.steps.http_settings import HttpCallSettings

if TYPE_CHECKING:
    from transforms.steps.http_step import HttpCallStep


def _make(settings: HttpCallSettings, environment: StepEnvironment) -> HttpCallStep:
    from transforms.steps.http_step import HttpCallStep  # noqa: PLC0415 - see below

    return HttpCallStep(settings, environment)


def _preflight(settings: HttpCallSettings, folder: Path) -> Iterable[Check]:
    from transforms.steps.http_preflight import preflight  # noqa: PLC0415 - as above

    return preflight(settings, folder)


HTTP_CALL = StepType(
    "step.http_call",
    HttpCallSettings,
    "Make an HTTP request.",
    make=_make,  # the client takes longer to import than a flow to read
    effect=True,
    preflight=_preflight,
    shared=("concurrency", "connections", "circuit_breaker"),
)
