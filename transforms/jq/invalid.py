"""The error of an expression that does not compile."""

from __future__ import annotations

from typing import Any

from connectors.errors import PenstockError


class ExpressionError(PenstockError):
    """An expression does not compile. `position` is the character in its text where that shows."""

    kind = "usage"

    def __init__(
        self,
        message: str,
        position: int = 0,
        *,
        hint: str = "",
        code: str = "expression_invalid",
        **context: Any,
    ) -> None:
        super().__init__(message, code=code, hint=hint, **context)
        self.position = position
