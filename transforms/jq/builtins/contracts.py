"""What a builtin is to the compiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function of values: `call(input, *arguments)`.

    It returns one value, or an iterable of outputs when `many`. What is not `pure` depends on more than
    its input (the clock), and must not run at compile time. It raises JqError, and TooLarge for a result
    beyond our bounds; it changes none of its arguments.
    """

    call: Callable[..., Any]
    many: bool = False
    pure: bool = True
