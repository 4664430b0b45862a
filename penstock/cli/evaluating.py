"""Evaluates one expression over inputs, and shows where it goes wrong: for `penstock try`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from connectors.errors import FlowFileError, PenstockError
from flows.runtime import exits
from flows.spec.problems import Problem
from penstock.cli.output import printable
from penstock.cli.sources import source_of
from transforms.expressions import ExpressionError, Program, Template, compile_jq, compile_template


class Trial:
    """One expression; `program` or `template` is its text."""

    def __init__(self, program: str | None, template: str | None, *, on_event: bool) -> None:
        """Compile it. Raises ExpressionError."""
        self.text = program if program is not None else template or ""
        self.language = "jq" if program is not None else "template"
        self._on_event = on_event
        self._compiled: Program | Template = (
            compile_jq(self.text) if program is not None else compile_template(self.text)
        )

    def engine(self) -> str:
        """Return what evaluates it, and why."""
        from penstock.cli.explaining import engine_of  # noqa: PLC0415 - knows the words for it

        return "{}: {}".format(*engine_of(self.language, self.text))

    def outputs(self, value: Any) -> list[Any]:
        """Return the outputs over an input. Raises PenstockError."""
        if self._on_event:
            value = _context(value)
        if isinstance(self._compiled, Template):
            if not isinstance(value, dict):
                raise FlowFileError(
                    "a template reads the fields of an object, and the input is none.",
                    code="input_invalid",
                    hint="With --event the input is an event's data: {{ .data }}.",
                )
            return [self._compiled.render_value(value)]
        return self._compiled.run(value)


def run(trial: Trial, files: Sequence[Path], *, raw: bool, compact: bool) -> int:
    """Print the outputs over every input; return the exit code."""
    print(trial.engine(), file=sys.stderr)
    failed = False
    for value in _inputs(files):
        try:
            outputs = trial.outputs(value)
        except PenstockError as error:
            sys.stdout.flush()
            show_error(trial.text, error)
            failed = True
            continue
        for output in outputs:
            print(_written(output, raw=raw, compact=compact))
    return exits.FOUND_FAILURES if failed else exits.DONE


def print_source(trial: Trial) -> int:
    """Print the generated Python; return the exit code: 1 when there is none."""
    source = source_of(trial.language, trial.text)
    if source is None:
        print(f"no Python is generated for it ({trial.engine()})", file=sys.stderr)
        return exits.FOUND_FAILURES
    print(source)
    return exits.DONE


def show_error(text: str, error: PenstockError) -> None:
    """Print an error to stderr, with the line of the program and a caret where its place is known."""
    line, column = _place(text, error)
    lines = text.splitlines() or [""]
    problem = Problem(
        file="expression",
        line=line or 1,
        column=column or 1,
        message=printable(error.message),
        hint=error.hint,
        excerpt=lines[line - 1] if line else "",
        width=1,
    )
    shown = str(problem)
    print(shown if line else shown.partition(": ")[2], file=sys.stderr)


def _place(text: str, error: PenstockError) -> tuple[int, int]:
    """Return line and column (from 1) of an error in the program; (0, 0) where it has no place."""
    if isinstance(error, ExpressionError):
        before = text[: min(error.position, len(text))]
        return before.count("\n") + 1, len(before) - before.rfind("\n")
    line, column = error.context.get("line"), error.context.get("column")
    known = isinstance(line, int) and isinstance(column, int) and line <= text.count("\n") + 1
    return (line, column) if known else (0, 0)  # type: ignore[return-value]  # both are int then


def _context(value: Any) -> dict[str, Any]:
    """Return what a flow's step sees of an event with this data, or of this CloudEvent."""
    from flows.testing.events import batch_of  # noqa: PLC0415 - only --event needs it
    from flows.testing.model import EventInput  # noqa: PLC0415
    from transforms.executions import Executions  # noqa: PLC0415

    executions = Executions(batch_of([_event(value, EventInput)], None), "try")
    executions.base_meta = {"flow": "try", "pipeline": "try"}
    return executions.context(0)


def _event(value: Any, model: Any) -> Any:
    if not (isinstance(value, dict) and "specversion" in value):
        return model(data=value)
    known = set(model.model_fields) - {"extensions", "raw", "key", "table"}
    said = {name: inner for name, inner in value.items() if name in known}
    others = {n: v for n, v in value.items() if n not in known and n != "specversion"}
    return model(**said, extensions=others)


def _inputs(files: Sequence[Path]) -> Iterator[Any]:
    """Yield each JSON value of the files; of standard input without any; null on a terminal."""
    if not files and sys.stdin.isatty():
        yield None
        return
    for file in files or [Path("-")]:
        name = "standard input" if str(file) == "-" else str(file)
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise FlowFileError(
                f"{name} can't be read: {reason}.",
                code="input_unreadable",
                hint="Name a file of JSON values with --input, or - for standard input.",
            ) from None
        yield from _values(text, name)


def _values(text: str, name: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at, found = 0, False
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            break
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            at = getattr(error, "pos", at)
            line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
            raise FlowFileError(
                f"{name}:{line}:{column}: this is not JSON: {getattr(error, 'msg', error)}.",
                code="input_invalid",
                hint="An input is JSON values, one after the other.",
            ) from None
        found = True
        yield value
    if not found and name == "standard input":
        yield None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _written(value: Any, *, raw: bool, compact: bool) -> str:
    if raw and isinstance(value, str):
        return value
    if compact:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=2)
