"""Columns of simple jq programs, by Python generated for them: a comprehension over their roots.

    {id: .data.id, of: .steps.customer.output}   →   [{'id': …, 'of': v1} for v0, v1 in zip(c0, c1)]

It gives what native.py gives, event by event, wherever it gives anything: an event that does not
fit raises, and the caller then goes through the batch with native.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from connectors.batch import Column
from transforms.executions import UNSET, Executions
from transforms.expressions.syntax import (
    Array,
    Binary,
    Call,
    Identity,
    Index,
    Literal,
    Node,
    NotUnderstood,
    Object,
    Pipe,
    parse,
)
from transforms.expressions.tokens import Token
from transforms.expressions.values import access, compare, truthy

_TRUE_OR_FALSE = {"==", "!=", "<", "<=", ">", ">=", "and", "or"}
_DEEPEST = 30
"""Python's own parser has a limit, and nobody writes such a program by hand."""

_NAMES: dict[str, Any] = {
    "__builtins__": {"zip": zip, "type": type, "dict": dict, "int": int},
    "access": access,
    "compare": compare,
    "truthy": truthy,
}

Place = tuple[str, ...]


class Generated:
    """A program as a function over columns."""

    __slots__ = ("_function", "_places", "source")

    def __init__(
        self, function: Callable[..., Column], places: Sequence[Place], source: str
    ) -> None:
        self._function = function
        self._places = tuple(places)
        self.source = source

    def column(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Return a value per index. Raises an error for any event that the program doesn't fit."""
        columns = [_column_at(place, executions, indexes) for place in self._places]
        return self._function(*columns) if columns else self._function(indexes)


def generate(tokens: Sequence[Token]) -> Generated | None:
    """Return the program as a function over columns; None when it is not one of the simple ones."""
    maker = _Maker()
    try:
        body = maker.expression(parse(tokens))
    except (NotUnderstood, RecursionError):
        return None
    places = list(maker.places)
    columns = [f"c{number}" for number in range(len(places))] or ["c0"]
    values = [f"v{number}" for number in range(len(columns))]
    over = (
        f"for {values[0]} in {columns[0]}"
        if len(columns) == 1
        else f"for {', '.join(values)} in zip({', '.join(columns)})"
    )
    source = f"lambda {', '.join(columns)}: [{body} {over}]"
    names = {**_NAMES, **maker.constants}
    # The source is made of these names and of v0, v1, …: nothing of the program's text is in it.
    function = eval(source, names)  # noqa: S307 - see above
    return Generated(function, places, source)


class _Maker:
    def __init__(self) -> None:
        self.places: dict[Place, str] = {}
        self.constants: dict[str, Any] = {}
        self._depth = 0
        self._names = 0

    def expression(self, node: Node) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NotUnderstood("it is nested deeply")
        made = self._expression(node)
        self._depth -= 1
        return made

    def _expression(self, node: Node) -> str:
        match node:
            case Literal(value):
                return self._constant(value)
            case Index():
                return self._path(node)
            case Binary("and" | "or" as operator, left, right):
                return f"({self._truth(left)} {operator} {self._truth(right)})"
            case Binary(operator, left, right) if operator in _TRUE_OR_FALSE:
                return self._comparison(operator, left, right)
            case Pipe(left, Call("not", ()), False):
                return f"(not {self._truth(left)})"
            case Array(None):
                return "[]"
            case Array(items) if items is not None:
                return f"[{', '.join(map(self.expression, _listed(items)))}]"
            case Object(entries):
                return f"{{{', '.join(self._entry(key, value) for key, value in entries)}}}"
        raise NotUnderstood("it is not simple")

    def _constant(self, value: Any) -> str:
        if value is None or value is True or value is False:
            return repr(value)
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def _entry(self, key: Node, value: Node) -> str:
        if not isinstance(key, Literal) or not isinstance(key.value, str):
            raise NotUnderstood("a key is computed")
        return f"{self._constant(key.value)}: {self.expression(value)}"

    def _truth(self, node: Node) -> str:
        made = self.expression(node)
        is_truth = (isinstance(node, Binary) and node.operator in _TRUE_OR_FALSE) or isinstance(
            node, Pipe
        )
        return made if is_truth else f"truthy({made})"

    def _comparison(self, operator: str, left: Node, right: Node) -> str:
        one, two = self.expression(left), self.expression(right)
        literal = right.value if isinstance(right, Literal) else ...
        if operator in {"==", "!="}:
            if literal is None or literal is True or literal is False:
                return f"({one} {'is' if operator == '==' else 'is not'} {two})"
            if isinstance(literal, str):
                return f"({one} {operator} {two})"
        if type(literal) is int:
            name = self._name()
            quick = f"{name} {operator} {two} if type({name} := {one}) is int"
            return f"({quick} else compare({name}, {two}) {operator} 0)"
        return f"(compare({one}, {two}) {operator} 0)"

    def _name(self) -> str:
        self._names += 1
        return f"t{self._names}"

    def _path(self, node: Node) -> str:
        keys: list[str | int] = []
        while isinstance(node, Index):
            key = node.key
            if not isinstance(key, Literal) or type(key.value) not in {str, int}:
                raise NotUnderstood("a key is computed")
            keys.append(key.value)
            node = node.target
        if not isinstance(node, Identity):
            raise NotUnderstood("a path begins in a value")
        keys.reverse()
        place, rest = _split(keys)
        made = self.places.setdefault(place, f"v{len(self.places)}")
        for part in rest:
            key_name = self._constant(part)
            if isinstance(part, str):
                name = self._name()
                quick = f"{name}.get({key_name}) if type({name} := {made}) is dict"
                made = f"({quick} else access({name}, {key_name}))"
            else:
                made = f"access({made}, {key_name})"
        return made


def _listed(node: Node) -> list[Node]:
    if isinstance(node, Binary) and node.operator == ",":
        return [*_listed(node.left), *_listed(node.right)]
    return [node]


def _split(keys: Sequence[str | int]) -> tuple[Place, Sequence[str | int]]:
    """Split a path where a column ends: at a root, a field of the trigger, or a step's output."""
    match keys:
        case ["steps", str(name), "output", *rest]:
            return ("steps", name), rest
        case ["trigger", "data", *rest]:
            return ("data",), rest
        case ["trigger", str(name), *rest] if name not in {"trigger", "steps", "meta"}:
            return ("trigger", name), rest
        case [str(root), *rest]:
            return (root,), rest
    raise NotUnderstood("a path begins with a number")


def _column_at(place: Place, executions: Executions, indexes: Sequence[int]) -> Column:
    whole = len(indexes) == executions.events.size
    if place == ("data",):
        column = executions.events.column("data")
    elif len(place) == 2 and place[0] == "trigger":
        field, name = executions.trigger_field, place[1]
        return [field(k, name) for k in indexes]
    elif len(place) == 2:
        outputs = executions.outputs.get(place[1])
        if outputs is None:
            return [None] * len(indexes)
        return [None if (v := outputs[k]) is UNSET else v for k in indexes]
    else:
        root, name = executions.root, place[0]
        return [root(k, name) for k in indexes]
    return column if whole else [column[k] for k in indexes]
