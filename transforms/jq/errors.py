"""What a jq program can raise while it runs.

JqError     an error of the language: `try` catches it, `catch` sees its value
TooLarge    a result beyond our bounds on memory: nothing in the program catches it
"""

from __future__ import annotations

from typing import Any

LARGEST_TEXT = 64 * 1024 * 1024
"""Most characters of a string that a program may make."""

LARGEST_ARRAY = 10_000_000
"""Most elements of an array that a program may make."""


class JqError(Exception):
    """An error of the language, as `error(value)` raises it. `value` is any JSON value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


class TooLarge(Exception):  # noqa: N818 - reads as what is wrong, and is no error of the language
    """A result would exceed the bounds above. Not a JqError: `try` doesn't catch it."""
