"""A program's text to a Python function: parse, check, generate, compile. Once per process and text."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from transforms.expressions.errors import ExpressionError
from transforms.jq import arithmetic, paths, runtime, values
from transforms.jq.builtins import FORMATS, FUNCTIONS, sorting
from transforms.jq.counting import Counter
from transforms.jq.emit import Then
from transforms.jq.emit_builtins import Builtins, builtin_count
from transforms.jq.errors import JqError
from transforms.jq.names import check_names, known_functions
from transforms.jq.parser import parse
from transforms.jq.scope import Scope
from transforms.jq.syntax import Node
from transforms.jq.writer import Writer

MOST_OUTPUTS = 100_000
"""Outputs of one program over one event."""

_STACK = 12_000
"""Python frames: jq programs recurse, and so does the compiler over them."""

_numbers = itertools.count(1)


def _sources() -> dict[str, Any]:
    """Return what generated code may name, by name."""
    found: dict[str, Any] = {}
    for module in (values, paths, arithmetic, runtime):
        found.update(
            {
                name: one
                for name, one in vars(module).items()
                if name[0] != "_" and isinstance(one, types.FunctionType)
            }
        )
    found.update({name: one for name, one in vars(sorting).items() if name.endswith("_by_keys")})
    found.update({f"format_{name}": call for name, call in FORMATS.items()})
    found.update({f"call_{name}_{arity}": one.call for (name, arity), one in FUNCTIONS.items()})
    found |= {
        "JqError": JqError,
        "Break": runtime.Break,
        "NOTHING": runtime.NOTHING,
        "ONCE": runtime.ONCE,
        "all_names": lambda: [f"{name}/{arity}" for name, arity in sorted(known_functions())],
        "__builtins__": {"type": type, "dict": dict, "list": list, "int": int, "float": float, "str": str, "len": len, "range": range, "enumerate": enumerate, "zip": zip},
    }  # fmt: skip
    return found


_NAMES = _sources()


class Compiled:
    """A program as Python: `outputs` runs it over a value."""

    __slots__ = ("_places", "_run", "count", "file", "reads", "source", "text", "tree")

    def __init__(self, text: str, tree: Node, *, context: bool = False) -> None:
        self.text = text
        self.tree = tree
        self.file = f"<jq {next(_numbers)}>"
        """Name of the generated module, as tracebacks have it."""
        made = _generate(tree, context=context)
        self.source = made.source
        """The generated Python."""
        self.count = made.count
        self.reads: tuple[tuple[str, ...], ...] = made.reads
        """Places of the context that the functions take, in order; () is all of it."""
        self._places = made.places
        names = {**_NAMES, **made.constants}
        try:
            code = compile(made.source, self.file, "exec")
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise ExpressionError(f"the program is nested too deeply ({error})") from None
        # The source is made of names of ours and of constants that are quoted.
        exec(code, names)  # noqa: S102 - see above
        self._run: Callable[..., None] = names["outputs"]

    def outputs(self, value: Any, into: list[Any] | None = None) -> list[Any]:
        """Return all outputs over a value. Raises JqError, and what the limits raise.

        They are added to `into`, which so has those from before an error too.
        """
        out: list[Any] = [] if into is None else into
        self._run(out, value)
        return out

    @property
    def run(self) -> Callable[..., None]:
        """The generated function: it takes what `reads` says."""
        return self._run

    def position(self, error: BaseException) -> int | None:
        """Return where in the program an error of it was raised, None where that is not known."""
        found = None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file:
                found = self._places.get(trace.tb_lineno, found)
            trace = trace.tb_next
        return found


class _Made:
    __slots__ = ("constants", "count", "places", "reads", "source")

    def __init__(
        self,
        source: str,
        places: Mapping[int, int],
        constants: Mapping[str, Any],
        reads: tuple[tuple[str, ...], ...],
        count: int,
    ) -> None:
        self.source = source
        self.places = places
        self.constants = constants
        self.reads = reads
        self.count = count


def _generate(tree: Node, *, context: bool) -> _Made:
    writer = Writer()
    counter = Counter(builtin_count)
    emitter = Builtins(writer, counter)
    emitter.roots = context
    scope = Scope()
    count = counter.of(tree, scope)
    collect = Then(lambda text: writer.write(f"out.append({text})"), cheap=True)
    emitter.each(tree, scope, "r0", collect)
    names = {"r0": ()} | {name: parts for parts, name in emitter.places.items()}
    text = "\n".join(
        line for one in [*[f.lines for f in writer.functions], writer.lines] for _, line in one
    )
    used = [name for name in names if name in _words(text)] if context else ["r0"]
    head = f"def outputs({', '.join(['out', *used])}):"
    source, places = writer.render([(head, writer.lines)])
    return _Made(source, places, writer.constants, tuple(names[name] for name in used), count)


def _words(text: str) -> set[str]:
    import re  # noqa: PLC0415 - once per program

    return set(re.findall(r'"(?:[^"\\]|\\.)*"|\b[r][0-9]+\b', text))


@contextmanager
def deep_stack() -> Iterator[None]:
    """Allow the recursion that programs and their compiler need."""
    if sys.getrecursionlimit() < _STACK:
        sys.setrecursionlimit(_STACK)
    yield


@cache
def compile_program(text: str) -> Compiled:
    """Compile a program, once per process. Raises ExpressionError with the place of what is wrong."""
    with deep_stack():
        try:
            tree = parse(text)
            check_names(tree, text)
            return Compiled(text, tree)
        except RecursionError:
            raise ExpressionError("the program is nested too deeply") from None
