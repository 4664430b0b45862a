"""The functions of C's mathematical library, over doubles.

Those that only cut a fraction keep integers of any size exact; all others compute in doubles, as jq does.
Python's `math` answers where it agrees with C and the operand is an ordinary one; C's own library, which
the interpreter is linked with, answers the rest.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

from transforms.jq.arithmetic import to_double, whole
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.errors import JqError
from transforms.jq.values import type_error

_NUMBERS = (int, float)
_DOUBLE = ctypes.c_double
_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1


@cache
def _c(name: str, *arguments: Any) -> Callable[..., float]:
    """Return a function of C's library. Raises JqError, in jq's words, where it has none."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        raise JqError(f"Error: {name}/0 not found at build time") from None
    function.restype = _DOUBLE
    function.argtypes = arguments
    return function  # type: ignore[no-any-return] # ctypes knows no types


def _double(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return to_double(value)
    raise type_error(value, "number required")


def _unary(name: str, quick: Callable[[float], float] | None = None) -> Builtin:
    def call(value: Any) -> Any:
        number = _double(value)
        if quick is not None:
            try:
                return whole(quick(number))
            except (ValueError, OverflowError):
                pass  # where C answers nan or an infinity
        return whole(_c(name, _DOUBLE)(number))

    return Builtin(call)


def _binary(name: str, quick: Callable[[float, float], float] | None = None) -> Builtin:
    def call(_: Any, left: Any, right: Any) -> Any:
        one, two = _double(left), _double(right)
        if quick is not None:
            try:
                return whole(quick(one, two))
            except (ValueError, OverflowError):
                pass
        return whole(_c(name, _DOUBLE, _DOUBLE)(one, two))

    return Builtin(call)


def _cutting(name: str) -> Builtin:
    """Return a function that leaves integers as they are."""

    def call(value: Any) -> Any:
        return value if type(value) is int else whole(_c(name, _DOUBLE)(_double(value)))

    return Builtin(call)


def floor(value: Any) -> Any:
    """Return the largest whole number that is not above `value`."""
    if type(value) is float and abs(value) < 1e17 and value:
        return math.floor(value)
    if type(value) is int:
        return value
    return whole(_c("floor", _DOUBLE)(_double(value)))


def _ldexp(_: Any, value: Any, exponent: Any) -> Any:
    number, power = _double(value), _double(exponent)
    return whole(_c("ldexp", _DOUBLE, ctypes.c_int)(number, _clamped(power, _INT_MAX)))


def _scalbln(_: Any, value: Any, exponent: Any) -> Any:
    number, power = _double(value), _double(exponent)
    return whole(_c("scalbln", _DOUBLE, ctypes.c_long)(number, _clamped(power, _LONG_MAX)))


def _clamped(value: float, most: int) -> int:
    if math.isnan(value):
        return -most - 1
    return int(max(-most - 1, min(most, value)))


def _frexp(value: Any) -> list[Any]:
    mantissa, exponent = math.frexp(_double(value))
    return [whole(mantissa), exponent]


def _modf(value: Any) -> list[Any]:
    fraction, integral = math.modf(_double(value))
    return [whole(fraction), whole(integral)]


def _lgamma_r(value: Any) -> list[Any]:
    sign = ctypes.c_int(1)
    number = _double(value)
    result = _c("lgamma_r", _DOUBLE, ctypes.POINTER(ctypes.c_int))(number, ctypes.byref(sign))
    return [whole(result), sign.value]


def _significand(value: Any) -> Any:
    number = _double(value)
    if not number or not math.isfinite(number):
        return whole(number)
    return whole(2 * math.frexp(number)[0])


def _fma(_: Any, one: Any, two: Any, three: Any) -> Any:
    numbers = _double(one), _double(two), _double(three)
    return whole(_c("fma", _DOUBLE, _DOUBLE, _DOUBLE)(*numbers))


def _bessel(name: str) -> Builtin:
    def call(_: Any, order: Any, value: Any) -> Any:
        number, at = _clamped(_double(order), _INT_MAX), _double(value)
        return whole(_c(name, ctypes.c_int, _DOUBLE)(number, at))

    return Builtin(call)


def _fabs(value: Any) -> Any:
    return abs(value) if type(value) is int else whole(abs(_double(value)))


_QUICK: dict[str, Callable[[float], float]] = {
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "cos": math.cos,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
_UNARY = (
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "j0",
    "j1",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "logb",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "y0",
    "y1",
)
_BINARY = (
    "atan2",
    "copysign",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "nextafter",
    "remainder",
    "scalb",
)

FUNCTIONS = {
    **{(name, 0): _unary(name, _QUICK.get(name)) for name in _UNARY},
    **{(name, 2): _binary(name) for name in _BINARY},
    **{(name, 0): _cutting(name) for name in ("ceil", "nearbyint", "rint", "round", "trunc")},
    ("floor", 0): Builtin(floor),
    ("fabs", 0): Builtin(_fabs),
    ("gamma", 0): _unary("lgamma"),
    ("significand", 0): Builtin(_significand),
    ("frexp", 0): Builtin(_frexp),
    ("modf", 0): Builtin(_modf),
    ("lgamma_r", 0): Builtin(_lgamma_r),
    ("pow", 2): _binary("pow", math.pow),
    ("drem", 2): _binary("remainder"),
    ("nexttoward", 2): _binary("nextafter"),  # of two doubles, both are the same
    ("ldexp", 2): Builtin(_ldexp),
    ("scalbln", 2): Builtin(_scalbln),
    ("jn", 2): _bessel("jn"),
    ("yn", 2): _bessel("yn"),
    ("fma", 3): Builtin(_fma),
}
