"""What events get from `step.http_call` while the circuit is open."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from connectors.batch import Column
from connectors.errors import PenstockError
from transforms.executions import Executions
from transforms.expressions import compile_value
from transforms.steps.http_requests import Request
from transforms.steps.http_settings import Fallback

_MOST = 1000
"""Answers kept."""
_LONGEST = 100_000
"""Bytes of the longest answer that is kept."""
_MAX_AGE = 3600.0

Given = tuple[Any, dict[str, Any]]
"""The step's output, and what `.steps.<name>` has beside it."""


class Static:
    """A fixed answer, rendered for each event."""

    def __init__(self, fallback: Fallback) -> None:
        """Compile it. Raises ExpressionError."""
        assert fallback.response is not None  # noqa: S101 - its settings were checked
        self._status = fallback.response.status
        self._body = compile_value(fallback.response.body)

    def column(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[Column, dict[int, PenstockError]]:
        """Return the body for each event, and the errors of those for which there is none."""
        bodies, errors = self._body.column(executions, indexes)
        return list(bodies), dict(errors)

    @property
    def details(self) -> dict[str, Any]:
        """What `.steps.<name>` has beside the body."""
        return {"status": self._status, "headers": {}, "fallback": True}


class Cached:
    """The last good answers of this worker, by request. Belongs to the loop's thread."""

    def __init__(self, fallback: Fallback, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_age = _MAX_AGE if fallback.max_age is None else fallback.max_age
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str, bytes | None], tuple[float, Given]]
        self._answers = OrderedDict()

    def remember(self, request: Request, given: Given, size: int) -> None:
        """Keep an answer of `size` bytes for later; one that is very long is not kept."""
        key = _key(request)
        self._answers.pop(key, None)
        if size <= _LONGEST:
            self._answers[key] = (self._clock(), given)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)

    def recall(self, request: Request) -> Given | None:
        """Return the last answer to the same request, if it is not too old."""
        found = self._answers.get(_key(request))
        if found is None or self._clock() - found[0] > self._max_age:
            return None
        output, details = found[1]
        return output, {**details, "fallback": True}


def _key(request: Request) -> tuple[str, str, bytes | None]:
    return request.method, str(request.url), request.body
