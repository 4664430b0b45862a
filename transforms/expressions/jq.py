"""jq programs over executions: a column per batch where that is possible, the events of it otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from connectors.batch import Column
from connectors.errors import PenstockError
from transforms.executions import Executions
from transforms.expressions.paths import Errors, begun, path_column
from transforms.expressions.views import Plain, Roots, View
from transforms.jq.compiler import compile_program
from transforms.jq.counting import ONE
from transforms.jq.errors import JqError
from transforms.jq.limits import PER_EVENT, SECONDS, OverLimit, bounded
from transforms.jq.syntax import Identity, Index, Node
from transforms.jq.syntax import Literal as Constant

Engine = Literal["path", "compiled"]
Place = tuple[str, ...]


class Program:
    """A compiled jq program over an execution's context."""

    __slots__ = ("_compiled", "_path", "engine", "reason", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._compiled = compile_program(text, context=True)
        self._path = static_path(self._compiled.tree)
        self.engine: Engine
        if self._path is not None:
            self.engine, self.reason = "path", "reads one place of the context"
        else:
            self.engine, self.reason = "compiled", "runs as Python that is generated from it"

    @property
    def source(self) -> str:
        """The Python that runs."""
        return self._compiled.source

    @property
    def reads(self) -> Sequence[Place]:
        """The places of the context it reads; `()` for all of it, `("steps",)` for all steps."""
        return self._compiled.reads

    @property
    def roots(self) -> frozenset[str] | None:
        """The roots of the context it reads; None when it may read all of it."""
        reads = self._compiled.reads
        return None if () in reads else frozenset(place[0] for place in reads)

    def run(self, context: Mapping[str, Any]) -> list[Any]:
        """Return all outputs over `context`. Raises PermanentError `jq_error` or `jq_limit`."""
        return compile_program(self.text).outputs(context)

    def first(self, context: Mapping[str, Any]) -> Any:
        """Return the first output, None when there is none. Raises PermanentError `jq_error`."""
        outputs = self.run(context)
        return outputs[0] if outputs else None

    def first_of(self, roots: Roots) -> Any:
        """Return the first output over a view of the context, None when there is none."""
        if isinstance(roots, Plain):
            return self.first(roots.whole())
        values = [_value_at(place, roots) for place in self._compiled.reads]
        outputs = self._one(values)
        return outputs[0] if outputs else None

    def column(self, executions: Executions, indexes: Sequence[int]) -> tuple[Column, Errors]:
        """Return the first output per index (None without one), and the errors of those that fail."""
        if self._path is not None:
            return path_column(self._path, executions, indexes)
        columns = [_column_at(place, executions, indexes) for place in self._compiled.reads]
        found = self._together(columns, indexes)
        if found is None:
            outputs, errors = self._apart(columns, indexes)
            return [one[0] if one else None for one in outputs], errors
        if self._compiled.count == ONE:
            return found, {}
        return [one[0] if one else None for one in found], {}

    def outputs(
        self, executions: Executions, indexes: Sequence[int]
    ) -> tuple[list[list[Any]], Errors]:
        """Return all outputs per index ([] for those that fail), and their errors."""
        columns = [_column_at(place, executions, indexes) for place in self._compiled.reads]
        found = self._together(columns, indexes)
        if found is None:
            return self._apart(columns, indexes)
        if self._compiled.count == ONE:
            return [[one] for one in found], {}
        return found, {}

    def results(self, executions: Executions, indexes: Sequence[int]) -> tuple[Column, Errors]:
        """Return per index its one output, the list of several, null for none; and the errors."""
        if self._path is not None or self._compiled.count == ONE:
            return self.column(executions, indexes)
        found, errors = self.outputs(executions, indexes)
        return [one[0] if len(one) == 1 else (one or None) for one in found], errors

    # --- running ------------------------------------------------------------------------------

    def _together(self, columns: list[Column], indexes: Sequence[int]) -> Column | None:
        """Return the whole batch's outputs; None when an event fails or all take too long."""
        run = self._compiled.column
        if run is None:
            return None
        found: Column = []
        arguments: Sequence[Any] = columns or [indexes]
        try:
            bounded(lambda: run(found, *arguments), SECONDS + PER_EVENT * len(indexes))
        except (JqError, OverLimit, OverflowError, TypeError):
            return None  # one by one, to tell which
        return self._compiled.printable(found)

    def _apart(
        self, columns: list[Column], indexes: Sequence[int]
    ) -> tuple[list[list[Any]], Errors]:
        outputs: list[list[Any]] = []
        errors: Errors = {}
        for place, index in enumerate(indexes):
            try:
                outputs.append(self._one([column[place] for column in columns]))
            except PenstockError as error:
                errors[index] = error
                outputs.append([])
        return outputs, errors

    def _one(self, values: Sequence[Any]) -> list[Any]:
        return self._compiled.over(*values)


@cache
def compile_jq(text: str) -> Program:
    """Compile a program, once per process. Raises ExpressionError with the place of what is wrong."""
    return Program(text)


def static_path(tree: Node) -> tuple[str | int, ...] | None:
    """Return the keys of a program that is nothing but a path, else None."""
    keys: list[str | int] = []
    while isinstance(tree, Index) and not tree.optional:
        key = tree.key
        if not isinstance(key, Constant) or type(key.value) not in {str, int}:
            return None
        keys.append(key.value)
        tree = tree.target
    if not isinstance(tree, Identity) or not keys or not isinstance(keys[-1], str):
        return None
    return tuple(reversed(keys))


def _value_at(place: Place, view: View) -> Any:
    if not place:
        return view.whole()
    value = view.get(place[0])
    for key in place[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _column_at(place: Place, executions: Executions, indexes: Sequence[int]) -> Column:
    """Return the column of one place of the context: the batch's own where it has one."""
    column, _ = begun(place, executions, indexes)
    if column is not None:
        return column
    if not place:
        return [executions.context(index) for index in indexes]
    if len(place) == 1:
        return executions.root_column(place[0], indexes)
    return [executions.steps_view(index).get(place[1]) for index in indexes]
