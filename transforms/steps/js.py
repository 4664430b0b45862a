"""`step.js`: a JavaScript function; modelled and validated, not built yet."""

from __future__ import annotations

import re
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import AfterValidator

from connectors.settings import Duration, Settings, Size
from transforms.contracts import StepType

_FUNCTION = re.compile(r"\bfunction\s+transform\s*\(|\btransform\s*=")


def _check_code(value: str) -> str:
    if not _FUNCTION.search(value):
        raise ValueError("code that defines `function transform(ctx) { … }`")
    return value


class JsSettings(Settings):
    """Configuration of `step.js`."""

    code: Annotated[str, AfterValidator(_check_code)]
    """Code that defines `function transform(ctx)`; what it returns is the step's output."""
    timeout: Annotated[Duration, Ge(0.001), Le(3600)] = 5.0
    """How long a call may take."""
    memory_limit: Annotated[Size, Ge(1_000_000)] = 64_000_000
    """How much memory a call may take."""


JS = StepType("step.js", JsSettings, "Compute a value with JavaScript.")
