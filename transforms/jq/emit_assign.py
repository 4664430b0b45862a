"""Assignments: `=`, `|=` and the rest.

Where the target is a chain of keys, `.[]` and `select`, the code goes down it and copies what it
changes on the way back; any other target is a list of paths that are set one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transforms.jq.counting import ONE, body_scope, bound
from transforms.jq.emit import Then, is_atom
from transforms.jq.emit_operators import is_number
from transforms.jq.emit_paths import Paths, Placed, Where
from transforms.jq.scope import Argument, Definition, Scope
from transforms.jq.shapes import Items, Keys
from transforms.jq.syntax import (
    Assign,
    Call,
    Identity,
    Index,
    Iterate,
    Literal,
    Node,
    Pipe,
    Slice,
)
from transforms.jq.writer import mark

_Change = Callable[[str], str]


class Assignments(Paths):
    """Values with something changed in them."""

    def assign(self, node: Assign, scope: Scope, given: str, then: Then) -> None:
        """Write an assignment."""
        at, operator, target, value = node.at, node.operator, node.target, node.value
        if operator == "|=":
            then(self.modified(at, target, value, scope, given))
            return

        def with_value(text: str) -> None:
            new = self.atom(text)
            if operator == "=":
                then(self._replaced(at, target, scope, given, new))
            elif operator == "//=":
                then(self._changed(at, target, scope, given, lambda old: self._or(old, new)))
            else:
                then(
                    self._changed(
                        at,
                        target,
                        scope,
                        given,
                        lambda old: self.binary(at, operator[:-1], old, new),
                    )
                )

        self.each(value, scope, given, Then(with_value))

    def _or(self, old: str, new: str) -> str:
        return f"({old} if {self.truth_of(old)} else {new})"

    def modified(self, at: int, target: Node, value: Node, scope: Scope, given: str) -> str:
        """Return `target |= value`."""
        if self.count(value, scope) == ONE:
            return self._changed(
                at, target, scope, given, lambda old: self.value(value, scope, old)
            )
        state, gone = self.w.name("s"), self.w.name("a")
        self.w.write(f"{state} = {given}")
        self.w.write(f"{gone} = []")

        def change(one: Where) -> None:
            path = self._delivered(at, one)
            old, new = self.w.name(), self.w.name()
            self.w.write(f"{old} = {mark(at, f'get_path({state}, {path})')}")
            self.w.write(f"{new} = NOTHING")
            self._first_of(value, scope, old, new)
            with self.w.block(f"if {new} is NOTHING:"):
                self.w.write(f"{gone}.append({path})")
            with self.w.block("else:"):
                self.w.write(f"{state} = {mark(at, f'set_path({state}, {path}, {new})')}")

        self.paths(target, scope, Where(given), Placed(change))
        return self.atom(mark(at, f"delete_paths({state}, {gone})"))

    def _first_of(self, value: Node, scope: Scope, old: str, new: str) -> None:
        name = self.w.name()
        with self.w.block(f"for {name} in {self.lift(value, scope, old)}:", counts=True):
            self.w.write(f"{new} = {name}")
            self.w.write("break")

    def _delivered(self, at: int, one: Where) -> str:
        """Return the path of an output, which must be where it says."""
        if one.anchor is not None:
            self.w.write(mark(at, f"check_result({one.value}, {one.near()})"))
        path = self.atom(one.path(), "p")
        self.shapes[path] = Items()
        return path

    def _replaced(self, at: int, target: Node, scope: Scope, given: str, new: str) -> str:
        if self._is_chain(target, scope):
            return self.atom(self._along(at, target, scope, given, lambda _old: new))
        state = self.w.name("s")
        self.w.write(f"{state} = {given}")

        def change(one: Where) -> None:
            path = self._delivered(at, one)
            self.w.write(f"{state} = {mark(at, f'set_path({state}, {path}, {new})')}")

        self.paths(target, scope, Where(given), Placed(change))
        return state

    def _changed(self, at: int, target: Node, scope: Scope, given: str, change: _Change) -> str:
        """Return the input with one new value for each that the target leads to."""
        if self._is_chain(target, scope):
            return self.atom(self._along(at, target, scope, given, change))
        state = self.w.name("s")
        self.w.write(f"{state} = {given}")

        def step(one: Where) -> None:
            path = self._delivered(at, one)
            old = self.w.name()
            self.w.write(f"{old} = {mark(at, f'get_path({state}, {path})')}")
            new = self.atom(change(old))
            self.w.write(f"{state} = {mark(at, f'set_path({state}, {path}, {new})')}")

        self.paths(target, scope, Where(given), Placed(step))
        return state

    # --- chains -------------------------------------------------------------------------------

    def _is_chain(self, node: Node, scope: Scope) -> bool:
        match node:
            case Identity():
                return True
            case Index(_, target, key, False):
                return self.count(key, scope) == ONE and self._is_chain(target, scope)
            case Slice(_, target, start, stop, False):
                ends = [end for end in (start, stop) if end is not None]
                return all(self.count(end, scope) == ONE for end in ends) and self._is_chain(
                    target, scope
                )
            case Iterate(_, target, False):
                return self._is_chain(target, scope)
            case Pipe(_, parts):
                return all(self._is_chain(part, scope) for part in parts)
            case Call(_, name, arguments):
                callee = scope.functions.get((name, len(arguments)))
                if isinstance(callee, Argument):
                    return self._is_chain(callee.node, callee.scope)
                if isinstance(callee, Definition):
                    return (
                        self.is_inline(callee)
                        and not any(name[0] == "$" for name in callee.function.parameters)
                        and self._is_chain(callee.function.body, self._inner(node, callee, scope))
                    )
                return (
                    name == "select"
                    and len(arguments) == 1
                    and self.count(arguments[0], scope) == ONE
                )
        return False

    @staticmethod
    def _inner(node: Call, callee: Definition, scope: Scope) -> Scope:
        return body_scope(callee, bound(node, scope), {})

    def _along(self, at: int, node: Node, scope: Scope, given: str, change: _Change) -> str:
        """Write the change of what a chain leads to; return what `given` is then."""
        given = self.atom(given)
        match node:
            case Identity():
                return change(given)
            case Index(place, target, key, _):
                index = (
                    self.literal(key.value)
                    if isinstance(key, Literal)
                    else self.atom(self.value(key, scope, given))
                )
                return self._along(
                    at, target, scope, given, lambda old: self._set(place, old, index, change)
                )
            case Slice(place, target, start, stop, _):
                ends = [
                    "None" if end is None else self.atom(self.value(end, scope, given))
                    for end in (start, stop)
                ]
                return self._along(
                    at, target, scope, given, lambda old: self._set_slice(place, old, ends, change)
                )
            case Iterate(place, target, _):
                return self._along(
                    at, target, scope, given, lambda old: self._set_each(place, old, change)
                )
            case Pipe(_, parts):
                return self._along_parts(at, parts, scope, given, change)
            case Call(_, name, arguments):
                callee = scope.functions.get((name, len(arguments)))
                if isinstance(callee, Argument):
                    return self._along(at, callee.node, callee.scope, given, change)
                if isinstance(callee, Definition):
                    inner = self._inner(node, callee, scope)
                    return self._along(at, callee.function.body, inner, given, change)
                return self._set_selected(arguments[0], scope, given, change)
        raise AssertionError(node)

    def _along_parts(
        self, at: int, parts: Sequence[Node], scope: Scope, given: str, change: _Change
    ) -> str:
        if len(parts) == 1:
            return self._along(at, parts[0], scope, given, change)
        return self._along(
            at,
            parts[0],
            scope,
            given,
            lambda old: self._along_parts(at, parts[1:], scope, old, change),
        )

    def _set(self, at: int, old: str, key: str, change: _Change) -> str:
        old = self.atom(old)
        new = self.atom(change(self.atom(self.indexed(at, old, key))))
        call = mark(at, f"set_item({old}, {key}, {new})")
        shape = self.shapes.get(old)
        if isinstance(shape, Keys) and key[:1] == '"':
            made = f"{{**{old}, {key}: {new}}}"
            self.shapes[made] = Keys(shape.names | {key})
            return made
        if key[:1] == '"':
            return f"({{**{old}, {key}: {new}}} if type({old}) is dict else {call})"
        if is_atom(key) and not is_number(key):
            test = f"type({old}) is dict and type({key}) is str"
            return f"({{**{old}, {key}: {new}}} if {test} else {call})"
        return call

    def _set_slice(self, at: int, old: str, ends: list[str], change: _Change) -> str:
        old = self.atom(old)
        part = self.atom(mark(at, f"slice_of({old}, {ends[0]}, {ends[1]})"))
        new = self.atom(change(part))
        key = f'{{"start": {ends[0]}, "end": {ends[1]}}}'
        return mark(at, f"set_item({old}, {key}, {new})")

    def _set_each(self, at: int, old: str, change: _Change) -> str:
        old = self.atom(old)
        made, key, value = self.w.name("a"), self.w.name("k"), self.w.name()
        shape = self.shapes.get(old)
        if isinstance(shape, Items):
            self.w.write(f"{made} = {old}.copy()")
            head = f"for {key}, {value} in enumerate({old}):"
            if shape.of is not None:
                self.shapes[value] = shape.of
        else:
            self.w.write(
                f"{made} = ({old}).copy() if type({old}) is list or type({old}) is dict else None"
            )
            head = f"for {key}, {value} in {mark(at, f'iterate_paths({old})')}:"
        with self.w.block(head, counts=True):
            self.w.write(f"{made}[{key}] = {change(value)}")
        return made

    def _set_selected(self, condition: Node, scope: Scope, given: str, change: _Change) -> str:
        name = self.w.name()
        self.w.write(f"{name} = {given}")
        test = self.truth(condition, scope, given)
        with self.w.block(f"if {test}:"):
            self.w.write(f"{name} = {change(given)}")
        return name
