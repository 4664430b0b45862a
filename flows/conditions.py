"""jq that chooses among executions: `--where`, `?where=`."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.errors import FlowFileError
from transforms.executions import Executions
from transforms.expressions import ExpressionError, Program, compile_jq


def condition(text: str) -> Program:
    """Return the program of `where`. Raises FlowFileError `where_invalid`."""
    try:
        return compile_jq(text)
    except ExpressionError as error:
        raise FlowFileError(
            f"the jq program can't be read: {error.message}",
            code="where_invalid",
            hint=f"Look at character {error.position + 1} of {text!r}.",
        ) from None


def true_for(where: Program, executions: Executions, indexes: Sequence[int]) -> list[int]:
    """Return the indexes of those for whose event it is true; one for which it fails does not match."""
    values, errors = where.column(executions, indexes)
    pairs = zip(indexes, values, strict=True)
    return [k for k, value in pairs if k not in errors and value is not None and value is not False]
