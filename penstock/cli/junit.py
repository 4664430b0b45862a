"""Results of tests as JUnit XML, which CI systems read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from connectors.errors import FlowFileError
from penstock.cli.case_report import failure_text

if TYPE_CHECKING:
    from flows.testing.suites import CaseResult

_FORBIDDEN = {*range(0x20), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)} - {0x9, 0xA, 0xD}
"""Code points that XML 1.0 can't hold."""


def write_junit(path: Path, results: Sequence[CaseResult]) -> None:
    """Write the results to a file. Raises FlowFileError when that can't be done."""
    try:
        path.write_text(junit_text(results), encoding="utf-8")
    except OSError as error:
        raise FlowFileError(
            f"{path} can't be written: {error.strerror or error}.",
            code="file_unwritable",
            hint="Name a file in a folder that exists and that you may write to.",
        ) from error


def junit_text(results: Sequence[CaseResult]) -> str:
    """Return the XML: a suite per test file, a test case per case."""
    by_file: dict[str, list[CaseResult]] = {}
    for result in results:
        by_file.setdefault(result.place.file, []).append(result)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_counts(results)}>"]
    for file, found in by_file.items():
        lines.append(f"  <testsuite name={_quoted(file)}{_counts(found)}>")
        for result in found:
            lines += _case(result)
        lines.append("  </testsuite>")
    lines.append("</testsuites>")
    return "\n".join(lines) + "\n"


def _case(result: CaseResult) -> list[str]:
    opening = (
        f"    <testcase name={_quoted(result.name)}"
        f" classname={_quoted(f'{result.flow}.{result.pipeline}')}"
        f' file={_quoted(result.place.file)} line="{result.place.line}"'
        f' time="{result.seconds:.6f}"'
    )
    if result.passed:
        return [f"{opening}/>"]
    text = "\n\n".join(failure_text(failure) for failure in result.failures)
    message = text.splitlines()[0]
    return [
        f"{opening}>",
        f"      <failure message={_quoted(message)}>{_escaped(text)}</failure>",
        "    </testcase>",
    ]


def _counts(results: Sequence[CaseResult]) -> str:
    failed = sum(not result.passed for result in results)
    seconds = sum(result.seconds for result in results)
    return f' tests="{len(results)}" failures="{failed}" errors="0" time="{seconds:.6f}"'


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))


def _escaped(text: str) -> str:
    return _clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clean(text: str) -> str:
    return "".join("\ufffd" if ord(c) in _FORBIDDEN else c for c in text)
