"""Say what was expected, and wait for it within bounds."""

from __future__ import annotations

import time
from collections.abc import Callable


def expect(condition: object, message: str) -> None:
    """Raise AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def wait_until(condition: Callable[[], object], message: str, *, seconds: float = 20.0) -> None:
    """Wait until the condition holds; AssertionError with the message after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, f"after {seconds:g} s: {message}")
        time.sleep(0.02)
