"""Every error of Penstock that has a cause outside its own code.

    PenstockError            code, hint, and what it is about
    ├── FlowFileError        the flow file or command is wrong (flows.spec adds file:line:column)
    ├── RetryableError       may succeed if tried again: a timeout, a broker that is away
    │   └── HeldError        not even tried: the event waits, and that is no attempt
    ├── PermanentError       this event will never pass: it doesn't decode, a 4xx, a schema
    └── FatalError           no event can pass: bad credentials, a lost slot; stops the worker

The class says who acts: the runtime (retryable), the operator looking at one dead letter
(permanent), or the operator looking at the whole flow (fatal). `code` is a stable slug that
dead letters, logs and docs/reference/errors.md share.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class PenstockError(Exception):
    """An error with a stable `code`, a `hint` of what to do, and `context` to find the place.

    `message` is one sentence without the hint. `context` holds JSON values only (step, url,
    status, position …) and never a secret: it is stored with dead letters and shown.
    """

    kind = "permanent"

    def __init__(self, message: str, *, code: str, hint: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.context = context

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def mask(self, redact: Callable[[str], str]) -> None:
        """Mask in place what `redact` masks: a server may have said a secret back."""
        self.message, self.hint = redact(self.message), redact(self.hint)
        self.args = (self.message,)
        self.context = {name: _masked(value, redact) for name, value in self.context.items()}

    def forget_frames(self) -> None:
        """Let go of the frames it was raised through: they hold the batch that holds the error.

        Such a cycle is freed by the garbage collector alone, some batches later: 20 MB more.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None


def _masked(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it masked."""
    match value:
        case str():
            return redact(value)
        case dict():
            return {name: _masked(inner, redact) for name, inner in value.items()}
        case list() | tuple():
            return [_masked(inner, redact) for inner in value]
        case _:
            return value


class FlowFileError(PenstockError):
    """The flow file or the command line is wrong: exit code 2."""

    kind = "usage"


class RetryableError(PenstockError):
    """The same call may succeed later. `retry_after` is in seconds, when the server named it."""

    kind = "retryable"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        hint: str = "",
        retry_after: float | None = None,
        **context: Any,
    ) -> None:
        super().__init__(message, code=code, hint=hint, **context)
        self.retry_after = retry_after


class HeldError(RetryableError):
    """The event was not tried and waits `retry_after` seconds: that costs it no attempt."""


class PermanentError(PenstockError):
    """This event fails whatever is done: it goes to the dead-letter queue."""


class FatalError(PenstockError):
    """Nothing can pass until a person acts: the worker stops with exit code 4.

    With `unreachable=True` the cause is a server that could not be reached: exit code 3.
    """

    kind = "fatal"

    def __init__(
        self, message: str, *, code: str, hint: str = "", unreachable: bool = False, **context: Any
    ) -> None:
        super().__init__(message, code=code, hint=hint, **context)
        self.unreachable = unreachable


def defect(part: str, error: Exception) -> FatalError:
    """Return what a bug in `part` ends the worker with: its words and place, for whoever reports it.

    For threads, which would end in silence, and leave the others waiting.
    """
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = ", ".join(f"{Path(each.filename).name}:{each.lineno}" for each in frames)
    return FatalError(
        f"{part} broke: {type(error).__name__}: {error} ({where}).",
        code="internal_error",
        hint="This is a defect; please report it. What was not settled comes again.",
    )
