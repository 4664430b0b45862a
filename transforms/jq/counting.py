"""How many outputs a program has: exactly one, at most one, or any number.

That decides what it becomes: an expression, an `if`, or a loop. Of a recursive function the best is
assumed until its body says otherwise (a greatest fixpoint).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from transforms.jq.scope import Argument, Callee, Definition, Dynamic, Scope, define
from transforms.jq.syntax import (
    Alternative,
    Array,
    Assign,
    Binary,
    Bind,
    Break,
    Call,
    Comma,
    Define,
    Foreach,
    Format,
    Function,
    Identity,
    If,
    Index,
    Iterate,
    Label,
    Literal,
    Logic,
    Negate,
    Node,
    Object,
    Pattern,
    PatternArray,
    PatternObject,
    Pipe,
    Reduce,
    Slice,
    Text,
    Try,
    Variable,
)

ONE, MAYBE, MANY = 0, 1, 2

Resolve = Callable[[Scope, str, int], Callee | None]
Builtins = Callable[[str, int], int | Callable[["Counter", Call, Scope], int] | None]

_NESTED = 4
"""Instances of one function within each other, before its arguments are taken to be endless."""


class Counter:
    """Answers `of(node, scope)`; remembers what it found."""

    def __init__(
        self,
        builtin: Callable[[Counter, Call, Scope], int],
    ) -> None:
        self._builtin = builtin
        self._known: dict[tuple[object, ...], int] = {}
        self._kept: list[object] = []
        self._going: list[tuple[object, ...]] = []
        self._assumed: set[tuple[object, ...]] = set()
        """Functions whose count was needed while it was being found: the recursive ones."""

    def of(self, node: Node, scope: Scope) -> int:
        """Return ONE, MAYBE or MANY."""
        if isinstance(node, (Identity, Literal, Variable, Format)):
            return ONE
        if isinstance(node, Array):
            return ONE
        key = (id(node), id(scope.functions))
        found = self._known.get(key)
        if found is None:
            found = self._of(node, scope)
            self._known[key] = found
            self._kept.append((node, scope.functions))
        return found

    def all_of(self, scope: Scope, *nodes: Node | None) -> int:
        """Return the largest count of several programs."""
        return max((self.of(node, scope) for node in nodes if node is not None), default=ONE)

    def _of(self, node: Node, scope: Scope) -> int:
        match node:
            case Text(_, parts, _):
                return self.all_of(scope, *[part for part in parts if not isinstance(part, str)])
            case Index(_, target, key, optional):
                return max(self.all_of(scope, target, key), MAYBE if optional else ONE)
            case Slice(_, target, start, stop, optional):
                return max(self.all_of(scope, target, start, stop), MAYBE if optional else ONE)
            case Iterate() | Label():
                return MANY
            case Try(_, body, handler):
                return max(
                    self.of(body, scope), MAYBE if handler is None else self.of(handler, scope)
                )
            case Negate(_, operand):
                return self.of(operand, scope)
            case Object(_, entries):
                return self.all_of(scope, *[part for entry in entries for part in entry])
            case Binary(_, _, left, right) | Logic(_, _, left, right):
                return self.all_of(scope, left, right)
            case Alternative(_, left, right):
                count = self.of(left, scope)
                return self.of(right, scope) if count <= MAYBE else MANY
            case Assign(_, operator, _, value):
                return ONE if operator == "|=" else self.of(value, scope)
            case Pipe(_, parts):
                return self.all_of(scope, *parts)
            case Comma(_, parts):
                counts = [self.of(part, scope) for part in parts if not _is_empty(part, scope)]
                return counts[0] if len(counts) == 1 else MANY if counts else MAYBE
            case Bind(_, source, patterns, body):
                if len(patterns) > 1 or self._pattern(patterns[0], scope) != ONE:
                    return MANY
                return self.all_of(scope, source, body)
            case Reduce(_, _, _, initial, _):
                return self.of(initial, scope)
            case Foreach():
                return MANY
            case If(_, condition, then, otherwise):
                return max(self.of(condition, scope), self.all_of(scope, then, otherwise))
            case Break():
                return MAYBE
            case Define(_, function, body):
                return self.of(body, define_once(scope, function, self))
            case Call():
                return self._call(node, scope)
        return MANY

    def _pattern(self, pattern: Pattern, scope: Scope) -> int:
        match pattern:
            case PatternArray(_, items):
                return max(self._pattern(item, scope) for item in items)
            case PatternObject(_, entries):
                return max(
                    max(self.of(key, scope), ONE if inner is None else self._pattern(inner, scope))
                    for key, _, inner in entries
                )
        return ONE

    def pattern(self, pattern: Pattern, scope: Scope) -> int:
        """Return how many times a pattern binds a value."""
        return self._pattern(pattern, scope)

    def _call(self, node: Call, scope: Scope) -> int:
        callee = scope.functions.get((node.name, len(node.arguments)))
        match callee:
            case None:
                return self._builtin(self, node, scope)
            case Dynamic():
                return MANY
            case Argument(body, inner):
                return self.of(body, inner)
        return self.instance(callee, bound(node, scope))

    def instance(self, callee: Definition, arguments: tuple[Callee, ...]) -> int:
        """Return the count of a function's body with these arguments."""
        key = (
            id(callee.function),
            id(callee.scope.functions),
            *[_identity(argument) for argument in arguments],
        )
        found = self._known.get(key)
        if found is not None:
            if key in self._going:
                self._assumed.add(key)
            return found
        function = callee.function
        if sum(1 for going in self._going if going[0] == id(function)) >= _NESTED:
            return MANY
        before = len(self._known)
        self._known[key] = ONE
        self._kept.append((callee, arguments))
        self._going.append(key)
        count = ONE
        while True:
            scope = body_scope(callee, arguments, dict.fromkeys(function.parameters, "?"))
            values = [
                self._closure(argument)
                for name, argument in zip(function.parameters, arguments, strict=True)
                if name.startswith("$")
            ]
            count = max([self.of(function.body, scope), *values])
            if count == self._known[key] or key not in self._assumed:
                self._known[key] = count
                break
            # What was found in the meantime may rest on the better guess.
            for other in list(self._known)[before:]:
                del self._known[other]
            self._known[key] = count
        self._assumed.discard(key)
        self._going.pop()
        return count

    def _closure(self, argument: Callee) -> int:
        if isinstance(argument, Argument):
            return self.of(argument.node, argument.scope)
        if isinstance(argument, Definition):
            return self.instance(argument, ())
        return MANY


def _identity(callee: Callee) -> tuple[int, int]:
    if isinstance(callee, Argument):
        return (id(callee.node), id(callee.scope.functions))
    return (id(callee), 0)


def _is_empty(node: Node, scope: Scope) -> bool:
    return isinstance(node, Call) and node.name == "empty" and ("empty", 0) not in scope.functions


def bound(node: Call, scope: Scope) -> tuple[Callee, ...]:
    """Return a call's arguments as closures; one that only names a closure is that closure."""
    made: list[Callee] = []
    for argument in node.arguments:
        known = None
        if isinstance(argument, Call) and not argument.arguments:
            known = scope.functions.get((argument.name, 0))
        # A function that takes no arguments is as good as a closure of its call.
        made.append(known if isinstance(known, (Argument, Dynamic)) else Argument(argument, scope))
    return tuple(made)


def body_scope(callee: Definition, arguments: tuple[Callee, ...], codes: dict[str, str]) -> Scope:
    """Return the scope of a function's body with its parameters in it."""
    scope = callee.scope
    for name, argument in zip(callee.function.parameters, arguments, strict=True):
        plain = name.removeprefix("$")
        scope = scope.with_function(plain, 0, argument)
        if name.startswith("$"):
            scope = scope.with_variable(plain, codes[name])
    return scope


_SCOPES = "defined"


def define_once(scope: Scope, function: Function, counter: Counter) -> Scope:
    """Return the scope with a function in it, the same one every time it is asked for."""
    key = (_SCOPES, id(function), id(scope.functions))
    memo: dict[tuple[object, ...], Scope] = counter.__dict__.setdefault("_defined", {})
    found = memo.get(key)
    if found is None:
        found, _ = define(scope, function)
        memo[key] = found
        counter._kept.append((function, scope.functions))  # noqa: SLF001 - ids stay taken
    return found


def names_called(node: Node) -> set[tuple[str, int]]:
    """Return every name and arity that is called anywhere in a tree."""
    return {(one.name, len(one.arguments)) for one in walk(node) if isinstance(one, Call)}


def walk(node: Node) -> Iterator[object]:
    """Yield every node of a tree, patterns and functions included."""
    waiting: list[object] = [node]
    while waiting:
        one = waiting.pop()
        yield one
        for name in _fields(type(one)):
            _gather(getattr(one, name), waiting)


def _gather(value: object, waiting: list[object]) -> None:
    if isinstance(value, tuple):
        for one in value:
            _gather(one, waiting)
    elif _fields(type(value)):
        waiting.append(value)


_known: dict[type, tuple[str, ...]] = {}


def _fields(kind: type) -> tuple[str, ...]:
    """Return the names of a node's fields; () of what is no node. Asked for each node of a tree."""
    found = _known.get(kind)
    if found is None:
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        found = _known[kind] = tuple(item.name for item in fields)
    return found
