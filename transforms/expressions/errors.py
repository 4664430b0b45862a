"""The error of an expression that does not compile."""

from transforms.jq.invalid import ExpressionError

__all__ = ["ExpressionError"]
