"""Runs files of jq's own test format through our engine and says what passed.

    python -m tests.transforms.jq.conformance FILE…

Each failure is printed with its place, the program, what was expected and what came. A case is
*refused* when the program asks for what a flow may not do (modules, input, environment …), and
*departs* when it differs only in digits: libjq keeps those of numbers that a program only passes
on, fractions too, and loses them in arithmetic; ours keeps integers' everywhere. Exit code 1 when a
case failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.transforms.jq.cases import Case, read_cases
from tests.transforms.jq.comparison import read, same, same_but_digits
from tests.transforms.jq.engine import Outcome, refusal, run
from transforms.expressions.errors import ExpressionError

Kind = Literal["passed", "failed", "refused", "departs"]


@dataclass(frozen=True)
class Verdict:
    """How a case went; `wanted` and `got` are for people."""

    kind: Kind
    reason: str = ""
    wanted: str = ""
    got: str = ""


def judge(case: Case) -> Verdict:
    """Run a case as jq's own runner does: by JSON value, and blind to an error after the outputs."""
    try:
        value = None if case.input is None else read(case.input)
        wanted = [] if case.input is None else [read(line) for line in case.expected]
    except ValueError as error:
        return Verdict("failed", f"the case is not JSON: {error}")
    try:
        outcome = run(case.program, value)
    except ExpressionError as error:
        return _uncompiled(case, error)
    except Exception as error:  # noqa: BLE001 - no program may raise another; the next case runs
        return Verdict("failed", "raises what no event may", got=repr(error))
    if case.input is None:
        return Verdict("failed", "it compiles", case.expected[0] if case.expected else "an error")
    return _compared(wanted, outcome, case)


def _uncompiled(case: Case, error: ExpressionError) -> Verdict:
    reason = refusal(error)
    if reason is not None:
        return Verdict("refused", reason)
    if case.input is not None:
        return Verdict("failed", "does not compile", _joined(case.expected), _said(error))
    if not 0 <= error.position <= len(case.program):
        return Verdict("failed", "its place is outside the program", got=str(error.position))
    return Verdict("passed")


def _compared(wanted: list[Any], outcome: Outcome, case: Case) -> Verdict:
    got = outcome.outputs
    texts = _joined(case.expected), _shown(outcome)
    if len(wanted) == len(got):
        if all(map(same, wanted, got)):
            return Verdict("passed")
        if all(map(same_but_digits, wanted, got)):
            return Verdict("departs", "exact integers: libjq's doubles lose digits", *texts)
    if "have_decnum" in case.program:
        return Verdict(
            "departs", "it asks which digits are kept: ours are those of integers", *texts
        )
    return Verdict("failed", "other outputs", *texts)


def _joined(lines: list[str]) -> str:
    return " · ".join(lines) or "nothing"


def _shown(outcome: Outcome) -> str:
    texts = [json.dumps(value, ensure_ascii=False) for value in outcome.outputs]
    if outcome.error is not None:
        texts.append(f"[{outcome.error.code}] {outcome.error}")
    return _joined(texts)


def _said(error: ExpressionError) -> str:
    return f"{error} (character {error.position})"


def report(files: list[Path]) -> Iterator[tuple[Case, Verdict]]:
    """Judge every case of the files, in order."""
    for file in files:
        for case in read_cases(file):
            yield case, judge(case)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return 1 when a case failed, 2 when a file can't be read."""
    parser = argparse.ArgumentParser(prog="python -m tests.transforms.jq.conformance")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    counts: Counter[Kind] = Counter()
    try:
        for case, verdict in report(parser.parse_args(arguments).files):
            counts[verdict.kind] += 1
            if verdict.kind != "passed":
                print(f"{verdict.kind:8}{case.place}: {verdict.reason}\n    {case.program}")  # noqa: T201
                if verdict.wanted or verdict.got:
                    print(f"      expected {verdict.wanted}\n      got      {verdict.got}")  # noqa: T201
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    kinds: tuple[Kind, ...] = ("passed", "failed", "refused", "departs")
    print(", ".join(f"{counts[kind]} {kind}" for kind in kinds))  # noqa: T201
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
