"""Errors of a running program, as the runtime and a person read them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from connectors.errors import PermanentError
from transforms.jq.errors import JqError
from transforms.jq.json_text import to_json
from transforms.jq.limits import OverLimit

_SHOWN = 80
_LONGEST = 200


def cut(text: str, longest: int = _SHOWN) -> str:
    """Return text cut to a length, with an ellipsis where it was cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def failed(error: JqError, program: str, position: int | None) -> PermanentError:
    """Return the error of an event over which a program fails."""
    said = error.value if isinstance(error.value, str) else f"error({cut(to_json(error.value))})"
    said = cut(said, _LONGEST).rstrip(".")
    context: dict[str, Any] = {"jq": said, "program": cut(program, _LONGEST)}
    where = ""
    if position is not None:
        context["line"], context["column"] = line_and_column(program, position)
        where = f" at {context['line']}:{context['column']}"
    shown = (
        _value(error.__traceback__) if said.startswith(("Cannot index", "Cannot iterate")) else None
    )
    if shown is not None:
        context["value"] = shown
        said = f"{said}: the value is {shown}"
    return PermanentError(f"{said} (in `{cut(program)}`{where}).", code="jq_error", **context)


def over_limit(error: OverLimit, program: str) -> PermanentError:
    """Return the error of an event over which a program exceeds a bound."""
    return PermanentError(
        f"the program was stopped: {error} (in `{cut(program)}`).",
        code="jq_limit",
        hint="A program may take 1 s, 256 MB and 100,000 outputs per event.",
        program=cut(program, _LONGEST),
    )


def line_and_column(text: str, position: int) -> tuple[int, int]:
    """Return line and column, from 1, of a place in a program."""
    line = text.count("\n", 0, position)
    return line + 1, position - (text.rfind("\n", 0, position) + 1) + 1


def _value(trace: TracebackType | None) -> str | None:
    """Return the value that the innermost function was given, which is the one that did not fit."""
    frame = None
    while trace is not None:
        frame = trace.tb_frame
        trace = trace.tb_next
    if frame is None or "value" not in frame.f_locals:
        return None
    try:
        return cut(to_json(frame.f_locals["value"]))
    except (RecursionError, ValueError):
        return None
