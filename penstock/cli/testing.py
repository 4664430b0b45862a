"""Runs tests of flows and prints what came of them; needs neither typer nor any client library."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from connectors.errors import FlowFileError
from flows.runtime import exits

if TYPE_CHECKING:
    from flows.testing.suites import CaseResult


@dataclass(frozen=True, slots=True)
class CasesCall:
    """What `penstock test` was asked to do."""

    files: Sequence[Path]
    wanted: Sequence[str] = ()
    """Names of cases; none: all."""
    watch: bool = False
    junit: Path | None = None
    output: Literal["text", "json"] = "text"

    def __call__(self) -> int:
        """Do it; return the exit code."""
        if self.watch:
            from penstock.cli.rerun import rerun_on_change  # noqa: PLC0415 - only for --watch

            rerun_on_change(self.files, lambda: _run(self))
        return _run(self)


def plain_call(arguments: Sequence[str]) -> CasesCall | None:
    """Return the call that a command line says, if it is a plain `penstock test`.

    An editing loop starts a process per run, and the library that reads command lines takes longer
    to import than a flow to test. Whatever is not plainly right is left to it: help, mistakes,
    completion.
    """
    if arguments[:1] != ["test"] or "_PENSTOCK_COMPLETE" in os.environ:
        return None
    files: list[Path] = []
    wanted: list[str] = []
    said: dict[str, str] = {}
    watch = False
    words = iter(arguments[1:])
    for word in words:
        name, joined, value = word.partition("=")
        if word == "--watch":
            watch = True
        elif name in {"--case", "--junit", "--output", "-o"} and (name != "-o" or not joined):
            text = value if joined else next(words, None)
            if text is None:
                return None
            if name == "--case":
                wanted.append(text)
            else:
                said["--output" if name == "-o" else name] = text
        elif word.startswith("-"):
            return None
        else:
            files.append(Path(word))
    output = said.get("--output", "text")
    if not files or output not in {"text", "json"}:
        return None
    return CasesCall(
        files,
        wanted,
        watch,
        Path(said["--junit"]) if "--junit" in said else None,
        "json" if output == "json" else "text",
    )


def _run(call: CasesCall) -> int:
    from penstock.cli.case_report import (  # noqa: PLC0415 - not for --watch
        as_json,
        case_lines,
        paint_of_stdout,
        summary_line,
    )

    started = time.perf_counter()
    paint = paint_of_stdout()
    results: list[CaseResult] = []
    for result in _results(call):
        if call.output == "text" and len(call.files) > 1:
            before = results[-1].place.file if results else ""
            if result.place.file != before:
                print(paint(result.place.file, "1"))
        results.append(result)
        if call.output == "text":
            for line in case_lines(result, paint):
                print(line)
    seconds = time.perf_counter() - started
    if call.junit is not None:
        from penstock.cli.junit import write_junit  # noqa: PLC0415 - only for --junit

        write_junit(call.junit, results)
    if call.output == "json":
        # Not with orjson: integers of any size are results.
        print(json.dumps(as_json(results, seconds), indent=2, ensure_ascii=False, default=str))
    else:
        print(summary_line(results, seconds, paint))
    return exits.DONE if all(result.passed for result in results) else exits.FOUND_FAILURES


def _results(call: CasesCall) -> Iterator[CaseResult]:
    """Load everything, then run: a mistake in any file is said before the first result."""
    from flows.testing.documents import find_suites  # noqa: PLC0415 - loads the flow models
    from flows.testing.suites import load_suite, run_suite  # noqa: PLC0415

    suites = find_suites(call.files)
    names = [case.name for suite in suites for each in suite.documents for case in each.model.tests]
    for name in call.wanted:
        if name not in names:
            raise _no_case(name, names)
    loaded = [(suite, load_suite(suite, os.environ)) for suite in suites]
    for suite, plan in loaded:
        yield from run_suite(suite, plan, call.wanted)


def _no_case(name: str, names: list[str]) -> FlowFileError:
    from flows.spec.problems import did_you_mean  # noqa: PLC0415 - only for the error

    return FlowFileError(
        f"there is no case {name}.", code="unknown_case", hint=did_you_mean(name, names)
    )
