"""jq's syntax tree. Every node has `at`, the offset in the program that an error of it names.

Pipe, Comma, Bind, Define, Label      what a query is made of
Binary, Logic, Alternative, Assign    operators
Index, Slice, Iterate, Try            what may follow a term
the rest                              terms
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Identity:
    """`.`: the input."""

    at: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Literal:
    """A constant: a number, text, true, false, null, [] or what folding made of a constant."""

    at: int
    value: Any


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Text:
    """A string with interpolations; `format` is the `@name` in front of it."""

    at: int
    parts: tuple[str | Node, ...]
    format: str | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Format:
    """`@name` alone."""

    at: int
    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Variable:
    """`$name`."""

    at: int
    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Index:
    """`target.name`, `target[key]`; `key` sees the input of the whole term, not the target."""

    at: int
    target: Node
    key: Node
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Slice:
    """`target[start:stop]`."""

    at: int
    target: Node
    start: Node | None
    stop: Node | None
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Iterate:
    """`target[]`."""

    at: int
    target: Node
    optional: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Try:
    """`try body catch handler`, and `body?` where there is no handler."""

    at: int
    body: Node
    handler: Node | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Negate:
    """`-operand`."""

    at: int
    operand: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Array:
    """`[body]`."""

    at: int
    body: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Object:
    """`{key: value, …}`."""

    at: int
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Binary:
    """Arithmetic and comparison: + - * / % == != < <= > >=."""

    at: int
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Logic:
    """`and`, `or`."""

    at: int
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Alternative:
    """`left // right`."""

    at: int
    left: Node
    right: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Assign:
    """`target = value` and its kin; `operator` is = |= += -= *= /= %= or //=."""

    at: int
    operator: str
    target: Node
    value: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pipe:
    """`a | b | …`."""

    at: int
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comma:
    """`a, b, …`."""

    at: int
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bind:
    """`source as pattern ?// … | body`."""

    at: int
    source: Node
    patterns: tuple[Pattern, ...]
    body: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reduce:
    """`reduce source as pattern (initial; update)`."""

    at: int
    source: Node
    patterns: tuple[Pattern, ...]
    initial: Node
    update: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Foreach:
    """`foreach source as pattern (initial; update; extract)`."""

    at: int
    source: Node
    patterns: tuple[Pattern, ...]
    initial: Node
    update: Node
    extract: Node | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class If:
    """`if condition then … else … end`; `elif` is one in `otherwise`."""

    at: int
    condition: Node
    then: Node
    otherwise: Node | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Label:
    """`label $name | body`."""

    at: int
    name: str
    body: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Break:
    """`break $name`."""

    at: int
    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call:
    """A function with its arguments, which are programs."""

    at: int
    name: str
    arguments: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Function:
    """`def name(parameters): body;`. A parameter that is a value keeps its `$`."""

    at: int
    name: str
    parameters: tuple[str, ...]
    body: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Define:
    """A function and the query that may call it."""

    at: int
    function: Function
    body: Node


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PatternVariable:
    """`$name` in a pattern."""

    at: int
    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PatternArray:
    """`[pattern, …]`."""

    at: int
    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PatternObject:
    """`{key: pattern, $name, $name: pattern}`; an entry is the key, its variable, its pattern."""

    at: int
    entries: tuple[tuple[Node, str | None, Pattern | None], ...]


Pattern = PatternVariable | PatternArray | PatternObject

Node = (
    Identity
    | Literal
    | Text
    | Format
    | Variable
    | Index
    | Slice
    | Iterate
    | Try
    | Negate
    | Array
    | Object
    | Binary
    | Logic
    | Alternative
    | Assign
    | Pipe
    | Comma
    | Bind
    | Reduce
    | Foreach
    | If
    | Label
    | Break
    | Call
    | Define
)


def pattern_names(pattern: Pattern) -> list[str]:
    """Return the variables that a pattern binds, each once, in order."""
    found: dict[str, None] = {}
    _names(pattern, found)
    return list(found)


def _names(pattern: Pattern, found: dict[str, None]) -> None:
    match pattern:
        case PatternVariable(_, name):
            found[name] = None
        case PatternArray(_, items):
            for item in items:
                _names(item, found)
        case PatternObject(_, entries):
            for _, variable, inner in entries:
                if variable is not None:
                    found[variable] = None
                if inner is not None:
                    _names(inner, found)
