"""A program's text to a Python function: parse, check, generate, compile. Once per process and text."""

from __future__ import annotations

import itertools
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from transforms.jq import arithmetic, paths, runtime, values
from transforms.jq.builtins import FORMATS, FUNCTIONS, sorting
from transforms.jq.counting import MANY, ONE, Counter, walk
from transforms.jq.emit import Then
from transforms.jq.emit_builtins import Builtins, builtin_count
from transforms.jq.errors import JqError
from transforms.jq.failures import failed, over_limit
from transforms.jq.finite import finite, is_too_deep, makes_deep_values, makes_wild_numbers
from transforms.jq.invalid import ExpressionError
from transforms.jq.limits import MOST_OUTPUTS, OverLimit, bounded
from transforms.jq.names import check_names, known_functions
from transforms.jq.owning import growing, let_go, put
from transforms.jq.parser import parse
from transforms.jq.scope import Scope
from transforms.jq.syntax import Break as BreakNode
from transforms.jq.syntax import Node
from transforms.jq.writer import Writer

_STACK = 8_000
"""Python frames: jq programs recurse, and so does the compiler over them. Half of what 8 MB of C stack,
a thread's default, were measured to hold where every frame is a generator's."""

sys.setrecursionlimit(max(sys.getrecursionlimit(), _STACK))

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
        "let_go": let_go,
        "put": put,
        **growing(arithmetic.add),
        "NOTHING": runtime.NOTHING,
        "ONCE": runtime.ONCE,
        "all_names": lambda: [f"{name}/{arity}" for name, arity in sorted(known_functions())],
        "__builtins__": {"type": type, "dict": dict, "list": list, "int": int, "float": float, "bool": bool, "str": str, "len": len, "range": range, "enumerate": enumerate, "zip": zip, "TypeError": TypeError},
    }  # fmt: skip
    return found


_NAMES = _sources()
_QUICK = {
    name: runtime.refusing_infinity(_NAMES[name])
    for name in ("add", "subtract", "multiply", "divide", "add_all")
}
"""Arithmetic of programs whose numbers are all in range: beyond it they are run again, carefully."""
_QUICK |= growing(_QUICK["add"])


class Compiled:
    """A program as Python: `outputs` runs it over a value."""

    __slots__ = (
        "_careful",
        "_is_careful",
        "_is_context",
        "_is_deep",
        "_is_wild",
        "_places",
        "_run",
        "column",
        "count",
        "file",
        "reads",
        "source",
        "text",
        "tree",
    )

    def __init__(
        self, text: str, tree: Node, *, context: bool = False, careful: bool = False
    ) -> None:
        self.text = text
        self.tree = tree
        self.file = f"<jq {next(_numbers)}>"
        """Name of the generated module, as tracebacks have it."""
        nodes = list(walk(tree))
        breaks = any(isinstance(node, BreakNode) for node in nodes)
        made = _generate(tree, context=context, careful=careful, breaks=breaks)
        self._is_context = context
        self._is_careful = careful
        self._careful: Compiled | None = None
        self.source = made.source
        """The generated Python."""
        self.count = made.count
        self.reads: tuple[tuple[str, ...], ...] = made.reads
        """Places of the context that the functions take, in order; () is all of it."""
        self._places = made.places
        self._is_deep = makes_deep_values(nodes)
        self._is_wild = careful or makes_wild_numbers(nodes)
        names = {**_NAMES, **({} if self._is_wild else _QUICK), **made.constants}
        try:
            with warnings.catch_warnings():
                # `1 is not None` is no slip here: constants stand where values do.
                warnings.simplefilter("ignore", SyntaxWarning)
                code = compile(made.source, self.file, "exec")
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise ExpressionError(f"the program is nested too deeply ({error})") from None
        # The source is made of names of ours and of constants that are quoted.
        exec(code, names)  # noqa: S102 - see above
        self.column: Callable[..., None] | None = names.get("column")
        """Of a program over a context: the function over columns, which adds an output per event to a
        list, or a list of outputs where there may be more or fewer than one."""
        self._run: Callable[..., None] = names.get("outputs") or self._run_column

    def outputs(self, value: Any) -> list[Any]:
        """Return all outputs over a value. Raises PermanentError `jq_error` or `jq_limit`."""
        return self.over(value)

    def over(self, *values: Any) -> list[Any]:
        """Return all outputs over the values of what the program `reads`. Raises PermanentError."""
        out: list[Any] = []
        try:
            bounded(lambda: self._run(out, *values))
        except JqError as error:
            raise failed(error, self.text, self.position(error)) from None
        except OverLimit as error:
            raise over_limit(error, self.text) from None
        except (OverflowError, TypeError):
            # An integer that no double can hold met a double, or what should have been a number is
            # none: the arithmetic of functions knows it.
            if self._is_careful:
                raise
            if self._careful is None:
                self._careful = Compiled(
                    self.text, self.tree, context=self._is_context, careful=True
                )
            return self._careful.over(*values)
        return self.printable(out)

    def _run_column(self, out: list[Any], *values: Any) -> None:
        """Add all outputs over one event's values, by way of columns of one."""
        run = self.column
        if run is None:
            raise AssertionError(self.text)
        columns = [(value,) for value in values] or [(None,)]
        if self.count == ONE:
            run(out, *columns)
        else:
            found: list[list[Any]] = []
            run(found, *columns)
            out.extend(found[0])

    def printable(self, found: list[Any]) -> list[Any]:
        """Return outputs as JSON has them, where the program may make what JSON has not.

        Raises PermanentError `jq_limit` for what is nested too deeply to be written.
        """
        if self._is_deep and any(is_too_deep(one) for one in found):
            raise over_limit(OverLimit("its output is nested too deeply"), self.text)
        return [finite(one) for one in found] if self._is_wild else found

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


def _generate(tree: Node, *, context: bool, careful: bool, breaks: bool) -> _Made:
    writer = Writer()
    counter = Counter(builtin_count)
    emitter = Builtins(writer, counter)
    emitter.roots = context
    emitter.careful = careful
    if breaks:
        emitter.caught = "(JqError, Break)"
    scope = Scope()
    count = counter.of(tree, scope)

    def collect(text: str) -> None:
        writer.write(f"out.append({text})")
        if count == MANY:
            with writer.block(f"if len(out) > {MOST_OUTPUTS}:"):
                writer.write("too_many(out)")

    emitter.each(tree, scope, "r0", Then(collect, cheap=True))
    writer.fill_places()
    if not writer.lines:
        writer.write("pass")
    names = {"r0": ()} | {name: parts for parts, name in emitter.places.items()}
    text = "\n".join(
        line for one in [*[f.lines for f in writer.functions], writer.lines] for _, line in one
    )
    used = [name for name in names if name in _words(text)] if context else ["r0"]
    if context:
        main = _column_head(used), _column(used, writer.lines, count)
    else:
        main = "def outputs(out, r0):", writer.lines
    source, places = writer.render(*main)
    return _Made(source, places, writer.constants, tuple(names[name] for name in used), count)


def _column_head(used: list[str]) -> str:
    return f"def column({', '.join(['found', *[f'c{name[1:]}' for name in used]]) if used else 'found, c'}):"


def _column(used: list[str], lines: list[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    """Return the body of a function over columns: an output per event, or a list of them each."""
    columns = [f"c{name[1:]}" for name in used]
    if not used:
        head = "for _ in c:"
    elif len(used) == 1:
        head = f"for {used[0]} in {columns[0]}:"
    else:
        head = f"for {', '.join(used)} in zip({', '.join(columns)}):"
    inner = [(indent + 1, text) for indent, text in lines]
    if count == ONE:
        return [(1, "out = found"), (1, head), *inner]
    return [(1, head), (2, "out = []"), *inner, (2, "found.append(out)")]


def _words(text: str) -> set[str]:
    import re  # noqa: PLC0415 - once per program

    return set(re.findall(r'"(?:[^"\\]|\\.)*"|\b[r][0-9]+\b', text))


@cache
def compile_program(text: str, *, context: bool = False) -> Compiled:
    """Compile a program, once per process. Raises ExpressionError with the place of what is wrong.

    With `context` its input is an execution's context: what it reads there becomes parameters.
    """
    try:
        tree = parse(text)
        check_names(tree, text)
        return Compiled(text, tree, context=context)
    except RecursionError:
        raise ExpressionError("the program is nested too deeply") from None
