"""The builtins of jq that take values only, by name and number of arguments.

What takes a closure (`map`, `select`, `path` …) is the compiler's; the modules here have the kernels it
needs for those.
"""

from __future__ import annotations

from collections.abc import Mapping

from transforms.jq.builtins import (
    collections,
    dates,
    formats,
    math,
    regex,
    sorting,
    streams,
    strings,
    types,
)
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.formats import FORMATS

__all__ = ["FORMATS", "FUNCTIONS", "Builtin"]

FUNCTIONS: Mapping[tuple[str, int], Builtin] = {
    **types.FUNCTIONS,
    **math.FUNCTIONS,
    **strings.FUNCTIONS,
    **collections.FUNCTIONS,
    **sorting.FUNCTIONS,
    **streams.FUNCTIONS,
    **formats.FUNCTIONS,
    **regex.FUNCTIONS,
    **dates.FUNCTIONS,
}
"""(name, arity) → builtin."""
