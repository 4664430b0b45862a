"""What the tests of jq programs ask of our engine, in terms of jq: outputs, then perhaps an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from connectors.errors import PermanentError
from transforms.expressions.errors import ExpressionError
from transforms.jq import compile_program


@dataclass(frozen=True)
class Outcome:
    """What a program gave for one input."""

    outputs: list[Any]
    error: PermanentError | None = None
    thrown: Any = None
    """What `catch` sees of the error."""


def run(program: str, value: Any) -> Outcome:
    """Return the outputs of a program, those before an error too.

    Raises ExpressionError for a program that does not compile. A flow drops the outputs of an
    event that fails; jq shows them, so a failing program is run again with its error caught.
    """
    compiled = compile_program(program)
    try:
        return Outcome(compiled.outputs(value))
    except PermanentError as error:
        failed = error
    if failed.code != "jq_error":
        return Outcome([], failed)
    caught = f'try (({program}\n) | ["output", .]) catch ["error", .]'
    try:
        shown = compile_program(caught).outputs(value)
    except (PermanentError, ExpressionError):
        return Outcome([], failed)
    outputs = [found for kind, found in shown if kind == "output"]
    thrown = [found for kind, found in shown if kind == "error"]
    return Outcome(outputs, failed, thrown[0] if thrown else None)


def refusal(error: ExpressionError) -> str | None:
    """Return why a name is refused; None for a program that is wrong."""
    name, refused, reason = error.message.partition(" is not allowed: ")
    return f"{name}: {reason}" if refused else None
