"""`penstock test`: the cases beside a flow, with nothing connected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.errors import FlowFileError
from flows.runtime import exits
from penstock.cli.help import examples
from penstock.cli.options import Output

if TYPE_CHECKING:
    from flows.testing.suites import CaseResult

EXAMPLES = (
    examples(
        "penstock test shop.yaml                        # the cases in shop.test.yaml",
        "penstock test shop.yaml --case 'a guest is one'",
        "penstock test shop.yaml --watch                # again whenever a file changes",
        "penstock test flows/*.test.yaml --junit out.xml   # each with the flow it is named after",
    )
    + """

\b
A first test file, shop.test.yaml:
  tests:
    - name: an order is shaped
      data: { id: 7, status: paid }
      expect:
        published:
          - data: { id: 7, status: paid }
"""
)


def run_cases(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="The flow file (several are read as one flow), and test files; without those, the"
            " ones named after it. Test files alone are each about the flow they are named after.",
            show_default=False,
        ),
    ],
    *,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="Only the case of this name; may be repeated."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Run again whenever one of the files changes.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML, too.")
    ] = None,
    output: Output = "text",
) -> int:
    """Run the tests of a flow, with nothing connected.

    Each case sends events through a pipeline's own steps and compares outputs, dead letters and what
    is published. Steps that would reach outside answer what the case's `mocks` say. Exit code 0 when
    all pass, 1 when one fails, 2 when a file or the command is wrong.
    """
    wanted = tuple(case or ())
    if watch:
        from penstock.cli.rerun import rerun_on_change  # noqa: PLC0415 - only for --watch

        options = [f"--case={name}" for name in wanted] + [f"--output={output}"]
        rerun_on_change(files, [*options, *([f"--junit={junit}"] if junit else [])])
    return _run(files, wanted, junit, output)


def _run(files: list[Path], wanted: tuple[str, ...], junit: Path | None, output: str) -> int:
    import time  # noqa: PLC0415

    from penstock.cli.case_report import (  # noqa: PLC0415
        as_json,
        case_lines,
        paint_of_stdout,
        summary_line,
    )

    started = time.perf_counter()
    paint = paint_of_stdout()
    results: list[CaseResult] = []
    for result in _results(files, wanted):
        results.append(result)
        if output == "text":
            for line in case_lines(result, paint):
                print(line)
    seconds = time.perf_counter() - started
    if junit is not None:
        from penstock.cli.junit import write_junit  # noqa: PLC0415

        write_junit(junit, results)
    if output == "json":
        import json  # noqa: PLC0415 - and not orjson: integers of any size are results

        print(json.dumps(as_json(results, seconds), indent=2, ensure_ascii=False, default=str))
    else:
        print(summary_line(results, seconds, paint))
    return exits.DONE if all(result.passed for result in results) else exits.FOUND_FAILURES


def _results(files: list[Path], wanted: tuple[str, ...]) -> Iterator[CaseResult]:
    """Load everything, then run: a mistake in any file is said before the first result."""
    import os  # noqa: PLC0415

    from flows.testing.documents import find_suites  # noqa: PLC0415 - loads the flow models
    from flows.testing.suites import load_suite, run_suite  # noqa: PLC0415

    suites = find_suites(files)
    names = [case.name for suite in suites for each in suite.documents for case in each.model.tests]
    for name in wanted:
        if name not in names:
            raise _no_case(name, names)
    loaded = [(suite, load_suite(suite, os.environ)) for suite in suites]
    for suite, plan in loaded:
        yield from run_suite(suite, plan, wanted)


def _no_case(name: str, names: list[str]) -> FlowFileError:
    from flows.spec.problems import did_you_mean  # noqa: PLC0415

    return FlowFileError(
        f"there is no case {name}.", code="unknown_case", hint=did_you_mean(name, names)
    )
