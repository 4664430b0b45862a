"""The builtins of jq that take values only, by name and number of arguments.

What takes a closure (`map`, `select`, `path` …) is the compiler's; the modules here have the kernels it
needs for those.
"""

from __future__ import annotations

from collections.abc import Mapping

from transforms.jq.builtins.contracts import Builtin

__all__ = ["FUNCTIONS", "Builtin"]

FUNCTIONS: Mapping[tuple[str, int], Builtin] = {}
"""(name, arity) → builtin."""
