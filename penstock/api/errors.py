"""Errors as RFC 9457 problems: `application/problem+json` with our codes and hints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from connectors.errors import FatalError, FlowFileError, PenstockError, RetryableError

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = 5
"""Seconds after which a caller may ask again when the state store does not answer."""

STATUSES = {
    "dead_letter_unknown": 404,
    "unknown_pipeline": 404,
    "replay_unknown": 404,
    "execution_unknown": 404,
    "backfill_unknown": 404,
    "replay_not_allowed": 409,
    "backfill_over": 409,
    "backfill_running": 409,
    "execution_ended": 409,
    "execution_not_running": 409,
}
"""Codes of errors that have a status of their own; of others the kind tells."""


class ApiError(PenstockError):
    """A request that is answered with `status`, 400 and above."""

    kind = "request"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """`errors`: what is wrong with each part, as {place, message}."""
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.headers = dict(headers or {})
        self.errors = list(errors)


def status_of(error: PenstockError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, ApiError):
        return error.status
    if error.code in STATUSES:
        return STATUSES[error.code]
    if isinstance(error, FlowFileError):
        return 422
    if isinstance(error, RetryableError) or error.code.startswith("state_"):
        return 503
    if isinstance(error, FatalError) and error.unreachable:
        return 503
    return 500


def problem_response(error: PenstockError, path: str, redact: Callable[[str], str]) -> Response:
    """Return the answer for an error, with the flow's secrets masked."""
    status = status_of(error)
    problem: dict[str, Any] = {
        "type": f"urn:penstock:error:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": redact(error.message),
        "instance": redact(path),
        "code": error.code,
        "hint": redact(error.hint),
    }
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER)
    if isinstance(error, ApiError):
        headers |= error.headers
        if error.errors:
            problem["errors"] = [
                {name: redact(text) for name, text in each.items()} for each in error.errors
            ]
    return Response(orjson.dumps(problem), status, headers, MEDIA_TYPE)
