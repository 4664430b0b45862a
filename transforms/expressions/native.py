"""The simple jq programs, evaluated in Python: paths, literals, comparisons, and/or/not, objects.

Exact (integers of any size) and fast where libjq would be handed the whole context as JSON. A
program outside this subset is not refused here: `parse` returns None and libjq takes it.

    or:    and ("or" and)*            comparison: term (== != < <= > >=) term
    and:   comparison ("and" …)*      term: path | literal | (…) | {…} | […]      … | not
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from transforms.expressions.tokens import Token
from transforms.expressions.values import access, compare, truthy
from transforms.expressions.views import Roots

Node = Callable[[Roots], Any]

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LONGEST = 500
"""Tokens: what is longer would nest Python's calls too deeply."""
_DIGITS = 300
"""Longer numbers are no integers anybody counts with; libjq makes doubles of them."""
_LITERALS = {"null": None, "true": True, "false": False}


class _NotSimple(Exception):  # noqa: N818 - a way out, not an error
    pass


class Native:
    """A parsed simple program; `path` is set when it is nothing but a path."""

    __slots__ = ("evaluate", "path", "roots")

    def __init__(
        self, evaluate: Node, roots: frozenset[str], path: tuple[str | int, ...] | None
    ) -> None:
        self.evaluate = evaluate
        self.roots = roots
        self.path = path


def parse(tokens: list[Token]) -> Native | None:
    """Return the program if it is a simple one, else None."""
    if len(tokens) > _LONGEST:
        return None
    parser = _Parser(tokens)
    try:
        node, path = parser.program()
    except (_NotSimple, RecursionError):
        return None
    return Native(node, frozenset(parser.roots), path)


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self.roots: set[str] = set()

    def program(self) -> tuple[Node, tuple[str | int, ...] | None]:
        start = self._at
        if self._peek("field"):
            path = self._path()
            if self._tokens[self._at].kind == "end":
                return _path_node(path), path
            self._at = start
        node = self._piped()
        if self._tokens[self._at].kind != "end":
            raise _NotSimple
        return node, None

    def _piped(self) -> Node:
        node = self._or()
        while self._take("op", "|"):
            if not self._take("name", "not"):
                raise _NotSimple
            node = _not(node)
        return node

    def _or(self) -> Node:
        node = self._and()
        while self._take("name", "or"):
            node = _or(node, self._and())
        return node

    def _and(self) -> Node:
        node = self._comparison()
        while self._take("name", "and"):
            node = _and(node, self._comparison())
        return node

    def _comparison(self) -> Node:
        left = self._term()
        token = self._tokens[self._at]
        if token.kind == "op" and token.value in _COMPARISONS:
            self._at += 1
            right = self._term()
            following = self._tokens[self._at]
            if following.kind == "op" and following.value in _COMPARISONS:
                raise _NotSimple  # jq refuses a chain: let it say so
            return _comparison(_COMPARISONS[token.value], left, right)
        return left

    def _term(self) -> Node:
        token = self._tokens[self._at]
        if token.kind == "field":
            return _path_node(self._path())
        self._at += 1
        if token.kind == "string":
            return self._constant(token.value)
        if token.kind == "number":
            return self._constant(_number(token.value))
        if token.kind == "op" and token.value == "-" and self._peek("number"):
            number = self._tokens[self._at]
            self._at += 1
            return self._constant(-_number(number.value))
        if token.kind == "name" and token.value in _LITERALS:
            return self._constant(_LITERALS[token.value])
        if token.kind == "op" and token.value == "(":
            node = self._piped()
            self._expect(")")
            return self._closed(node)
        if token.kind == "op" and token.value == "{":
            return self._closed(self._object())
        if token.kind == "op" and token.value == "[":
            return self._closed(self._array())
        raise _NotSimple

    def _constant(self, value: Any) -> Node:
        return self._closed(lambda _roots: value)

    def _closed(self, node: Node) -> Node:
        """Refuse what follows a term and belongs to it (`(…).a`, `[…][0]`, `"x"?`)."""
        token = self._tokens[self._at]
        if token.kind == "field" or (token.kind == "op" and token.value in {"[", "?", "."}):
            raise _NotSimple
        return node

    def _object(self) -> Node:
        entries: list[tuple[str, Node]] = []
        while not self._take("op", "}"):
            if entries:
                self._expect(",")
            token = self._tokens[self._at]
            if token.kind not in {"name", "string"}:
                raise _NotSimple
            self._at += 1
            if self._take("op", ":"):
                entries.append((token.value, self._term()))
            else:
                self.roots.add(token.value)
                entries.append((token.value, _path_node((token.value,))))
        return _object(entries)

    def _array(self) -> Node:
        nodes: list[Node] = []
        if self._take("op", "]"):
            return lambda _roots: []
        nodes.append(self._piped())
        while self._take("op", ","):
            nodes.append(self._piped())
        self._expect("]")
        return lambda roots: [node(roots) for node in nodes]

    def _path(self) -> tuple[str | int, ...]:
        """Read `.a.b["c"][0]`; the first part is a field, so a root is named."""
        parts: list[str | int] = [self._tokens[self._at].value]
        self.roots.add(self._tokens[self._at].value)
        self._at += 1
        while True:
            token = self._tokens[self._at]
            if token.kind == "field":
                parts.append(token.value)
                self._at += 1
            elif token.kind == "op" and token.value == "[":
                parts.append(self._index())
            elif token.value == "." and self._tokens[self._at + 1].kind == "string":
                parts.append(self._tokens[self._at + 1].value)
                self._at += 2
            elif token.kind == "op" and token.value in {"?", "."}:
                raise _NotSimple
            else:
                return tuple(parts)

    def _index(self) -> str | int:
        self._at += 1
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "op" and token.value == "-" and self._peek("number"):
            token = self._tokens[self._at]
            self._at += 1
            sign = -1
        else:
            sign = 1
        if token.kind not in {"string", "number"}:
            raise _NotSimple
        if token.kind == "number" and not (token.value.isdigit() and len(token.value) < _DIGITS):
            raise _NotSimple
        self._expect("]")
        return token.value if token.kind == "string" else sign * int(token.value)

    def _peek(self, kind: str) -> bool:
        return self._tokens[self._at].kind == kind

    def _take(self, kind: str, value: str) -> bool:
        token = self._tokens[self._at]
        if token.kind == kind and token.value == value:
            self._at += 1
            return True
        return False

    def _expect(self, value: str) -> None:
        if not self._take("op", value):
            raise _NotSimple


def _number(text: str) -> int | float:
    if text.isdigit() and len(text) < _DIGITS:
        return int(text)
    value = float(text)
    if math.isinf(value):
        raise _NotSimple  # libjq has its own idea of such numbers
    return value


def _path_node(path: tuple[str | int, ...]) -> Node:
    root = str(path[0])
    rest = path[1:]
    if not rest:
        return lambda roots: roots.get(root)

    def node(roots: Roots) -> Any:
        value = roots.get(root)
        for key in rest:
            value = access(value, key)
        return value

    return node


def _not(node: Node) -> Node:
    return lambda roots: not truthy(node(roots))


def _or(left: Node, right: Node) -> Node:
    return lambda roots: truthy(left(roots)) or truthy(right(roots))


def _and(left: Node, right: Node) -> Node:
    return lambda roots: truthy(left(roots)) and truthy(right(roots))


def _comparison(test: Callable[[int, int], bool], left: Node, right: Node) -> Node:
    def node(roots: Roots) -> bool:
        return test(compare(left(roots), right(roots)), 0)

    return node


def _object(entries: list[tuple[str, Node]]) -> Node:
    return lambda roots: {name: node(roots) for name, node in entries}
