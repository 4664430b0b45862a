"""Errors of executions as JSON, and back."""

from __future__ import annotations

from typing import Any

from connectors.errors import (
    FatalError,
    FlowFileError,
    PenstockError,
    PermanentError,
    RetryableError,
)

_ERRORS: dict[str, type[PenstockError]] = {
    kind.kind: kind for kind in (FatalError, FlowFileError, PermanentError, RetryableError)
}


def error_row(error: PenstockError | None) -> dict[str, Any] | None:
    """Return an error as a JSON object."""
    if error is None:
        return None
    return {
        "kind": error.kind,
        "message": error.message,
        "code": error.code,
        "hint": error.hint,
        "context": error.context,
    }


def error_of(row: dict[str, Any] | None) -> PenstockError | None:
    """Return the error that a JSON object of `error_row` stands for."""
    if row is None:
        return None
    kind = _ERRORS.get(row["kind"], PermanentError)
    return kind(row["message"], code=row["code"], hint=row["hint"], **row["context"])
