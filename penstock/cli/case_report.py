"""What came of tests, for people: differences path by path, each with its place in the test file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flows.testing.matching import ABSENT, path_text
from penstock.cli.output import count, printable

if TYPE_CHECKING:
    from flows.testing.suites import CaseResult, Failure

_WIDTH = 88
"""Longest value that stands on one line."""
_LINES = 40
"""Most lines of one value; the rest is counted."""


class Paint:
    """Colours for a terminal, or none."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def __call__(self, text: str, code: str) -> str:
        """Return the text in a colour: an SGR code such as `31`."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured else text


def paint_of_stdout() -> Paint:
    """Return colours if standard output is a terminal and NO_COLOR is not set."""
    return Paint(coloured=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def case_lines(result: CaseResult, paint: Paint) -> Iterable[str]:
    """Yield the lines about one case: one if it passed, else each failure under it."""
    name = printable(result.name)
    if result.passed:
        yield f"{paint('ok', '32')}    {name}"
        return
    yield f"{paint('FAIL', '1;31')}  {paint(name, '1')}"
    for failure in result.failures:
        yield from _failure_lines(failure, paint)
    yield ""


def summary_line(results: Sequence[CaseResult], seconds: float, paint: Paint) -> str:
    """Return `5 passed, 1 failed in 0.12 s`."""
    failed = sum(not result.passed for result in results)
    parts = [f"{len(results) - failed:,} passed"]
    if failed:
        parts.append(paint(f"{failed:,} failed", "1;31"))
    return f"{', '.join(parts)} in {seconds:.2f} s"


def failure_text(failure: Failure) -> str:
    """Return one failure without colours, for files."""
    return "\n".join(_failure_lines(failure, Paint(coloured=False), indent=""))


def as_json(results: Sequence[CaseResult], seconds: float) -> dict[str, Any]:
    """Return the results as JSON values."""
    failed = sum(not result.passed for result in results)
    return {
        "ok": not failed,
        "passed": len(results) - failed,
        "failed": failed,
        "seconds": round(seconds, 6),
        "cases": [_case_json(result) for result in results],
    }


def _case_json(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "flow": result.flow,
        "pipeline": result.pipeline,
        "file": result.place.file,
        "line": result.place.line,
        "column": result.place.column,
        "ok": result.passed,
        "seconds": round(result.seconds, 6),
        "failures": [_failure_json(failure) for failure in result.failures],
    }


def _failure_json(failure: Failure) -> dict[str, Any]:
    miss = failure.miss
    sides = {"expected": miss.expected, "found": miss.found}
    return {
        "file": failure.place.file,
        "line": failure.place.line,
        "column": failure.place.column,
        "path": path_text(failure.path),
        "message": miss.message,
        **{key: value for key, value in sides.items() if value is not ABSENT},
    }


def _failure_lines(failure: Failure, paint: Paint, indent: str = "  ") -> Iterable[str]:
    miss = failure.miss
    path = path_text(failure.path)
    where = "" if path == "name" else f": {path}"
    yield f"{indent}{paint(str(failure.place), '36')}{where}"
    if miss.message:
        for line in miss.message.splitlines():
            yield f"{indent}  {printable(line)}"
    if miss.expected is ABSENT and miss.found is ABSENT:
        return
    for word, value, code in (("expected", miss.expected, "32"), ("found", miss.found, "31")):
        if value is ABSENT and word == "expected" and miss.message:
            continue
        lines = _value_lines(value)
        yield f"{indent}  {word:<8}  {paint(lines[0], code)}"
        for line in lines[1:]:
            yield f"{indent}            {paint(line, code)}"


def _value_lines(value: Any) -> list[str]:
    """Return a value as JSON, on one line where it fits."""
    if value is ABSENT:
        return ["nothing"]
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > _WIDTH and isinstance(value, dict | list | tuple):
        text = json.dumps(value, ensure_ascii=False, default=str, indent=2)
    lines = [printable(line) for line in text.splitlines()] or [""]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"… {count(len(lines) - _LINES, 'line')} more"]
    return lines
