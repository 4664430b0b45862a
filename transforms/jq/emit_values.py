"""`value`: a program with exactly one output as a Python expression."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from transforms.jq.counting import ONE
from transforms.jq.emit import Then, can_fail, is_atom
from transforms.jq.emit_operators import is_text
from transforms.jq.emit_sums import Loop, Sums
from transforms.jq.errors import LARGEST_TEXT
from transforms.jq.scope import Scope
from transforms.jq.shapes import RESULT, Items, Keys, Shape, common
from transforms.jq.syntax import (
    Alternative,
    Array,
    Assign,
    Binary,
    Bind,
    Call,
    Comma,
    Define,
    Format,
    Identity,
    If,
    Index,
    Literal,
    Logic,
    Negate,
    Node,
    Object,
    Pipe,
    Reduce,
    Slice,
    Text,
    Try,
    Variable,
)
from transforms.jq.writer import mark, quoted


class Values(Sums):
    """Single outputs."""

    def value(self, node: Node, scope: Scope, given: str) -> str:
        """Return the one output of a program as an expression."""
        self.step()
        if self.is_deep() and isinstance(node, (Try, If, Reduce, Array, Call, Logic, Alternative)):
            return self.lifted_value(node, scope, self.atom(given))
        return self.short(self._value(node, scope, given))

    def lifted_value(self, node: Node, scope: Scope, given: str) -> str:
        """Return a call of a new function of the one output of a program."""
        start = self.w.count
        with self.w.function([], start) as made:
            self.w.write(f"return {self._value(node, scope, given)}")
        return mark(node.at, self.w.call(made.name))

    def _value(self, node: Node, scope: Scope, given: str) -> str:
        match node:
            case Identity():
                return given
            case Literal(_, value):
                return self.literal(value)
            case Variable(_, name):
                return scope.variables[name]
            case Index(at, target, key):
                return self._index(at, target, key, scope, given)
            case Slice():
                return self._slice(node, scope, given)
            case Pipe(_, parts):
                return self._pipe(parts, scope, given)
            case Binary(at, operator, left, right):
                given = self.atom(given)
                one, two = self.operands(left, right, scope, given)
                return self.binary(at, operator, one, two)
            case Logic():
                return self.logic(node, scope, self.atom(given))
            case Negate(at, operand):
                if isinstance(operand, Literal) and type(operand.value) in {int, float}:
                    return self.literal(-operand.value if operand.value else -0.0)
                return mark(at, f"negate({self.value(operand, scope, given)})")
            case Text():
                return self._text(node, scope, self.atom(given))
            case Format(at, name):
                return self.formatted(at, name, given)
            case Array(_, body):
                return self.array(body, scope, self.atom(given))
            case Object():
                return self._object(node, scope, self.atom(given))
            case If():
                return self._if(node, scope, self.atom(given))
            case Alternative():
                return self._alternative(node, scope, self.atom(given))
            case Try():
                return self._try(node, scope, self.atom(given))
            case Call():
                return self.call(node, scope, given)
            case Define(_, function, body):
                return self.value(body, self.defined(scope, function), given)
            case Bind() | Reduce() | Assign() | Comma():
                return self._first(node, scope, self.atom(given))
        raise AssertionError(node)

    def _first(self, node: Node, scope: Scope, given: str) -> str:
        """Return the one output of what is written as statements."""
        if isinstance(node, Bind):
            return self._bound(node, scope, given)
        found: list[str] = []
        self.each(node, scope, given, Then(found.append))
        return found[0]

    def _bound(self, node: Bind, scope: Scope, given: str) -> str:
        source = self.value(node.source, scope, given)
        inner = self.bind_one(node.patterns[0], source, scope)
        return self.value(node.body, inner, given)

    # --- constants and text -------------------------------------------------------------------

    def literal(self, value: Any) -> str:
        """Return a constant as an expression."""
        return self.w.constant(value)

    def formatted(self, at: int, name: str, text: str) -> str:
        """Return `@name` of a value."""
        if name == "text":
            return self.as_text(at, text)
        return mark(at, f"format_{name}({text})")

    def as_text(self, at: int, text: str) -> str:
        """Return `tostring` of a value."""
        del at
        if is_text(text):
            return text
        first, name = self.held(text)
        return f"({name} if type({first}) is str else to_text({name}))"

    def _text(self, node: Text, scope: Scope, given: str) -> str:
        parts = list(node.parts)
        programs = [part for part in parts if not isinstance(part, str)]
        # As sums from left to right, whose right operands are evaluated first.
        texts = self.sequence([partial(self.value, part, scope, given) for part in programs[::-1]])
        if sum(map(can_fail, texts)) > 1:
            texts = [self.atom(text) for text in texts]
        return self.joined(node, texts[::-1])

    def joined(self, node: Text, texts: Sequence[str]) -> str:
        """Return the parts of a string with the values of its interpolations."""
        waiting = iter(texts)
        form = node.format or "text"
        pieces = [
            quoted(part) if isinstance(part, str) else self.formatted(part.at, form, next(waiting))
            for part in node.parts
        ]
        made = self.w.name("t")
        text = f'"".join(({", ".join(pieces)},))'
        call = mark(node.at, f"joined(({made},))")
        return self.short(f"({made} if len({made} := {text}) < {LARGEST_TEXT} else {call})")

    # --- paths --------------------------------------------------------------------------------

    def _index(self, at: int, target: Node, key: Node, scope: Scope, given: str) -> str:
        if isinstance(key, Literal):
            base = self.value(target, scope, given)
            return self.read(at, base, key) or self.indexed(at, base, self.literal(key.value))
        given = self.atom(given)
        index, base = self.sequence(
            [lambda: self.value(key, scope, given), lambda: self.value(target, scope, given)]
        )
        if can_fail(index) and can_fail(base):
            index = self.atom(index)
        return self.indexed(at, base, index)

    def _slice(self, node: Slice, scope: Scope, given: str) -> str:
        given = self.atom(given)
        start, stop, base = self.sequence(
            [
                lambda: self._end(node.start, scope, given),
                lambda: self._end(node.stop, scope, given),
                lambda: self.value(node.target, scope, given),
            ]
        )
        return self.short(mark(node.at, f"slice_of({base}, {start}, {stop})"))

    def _end(self, node: Node | None, scope: Scope, given: str) -> str:
        return "None" if node is None else self.value(node, scope, given)

    def _pipe(self, parts: Sequence[Node], scope: Scope, given: str) -> str:
        place = 0
        while place < len(parts):
            total = self.sum_of(parts[place : place + 2], scope, given)
            if total is None:
                part = parts[place]
                given = self.value(part, scope, self.handed(part, given))
            else:
                given = total
                place += 1
            place += 1
        return given

    # --- construction -------------------------------------------------------------------------

    def array(self, body: Node, scope: Scope, given: str) -> str:
        """Return an array of a program's outputs."""
        parts = body.parts if isinstance(body, Comma) else (body,)
        if all(self.count(part, scope) == ONE for part in parts):
            makers = [partial(self.value, part, scope, given) for part in parts]
            texts = self.sequence(makers)
            made = f"[{', '.join(texts)}]"
            self.shapes[made] = Items(common({self.shapes.get(text) for text in texts}))
            return self.short(made)
        return self.collected(body, scope, given)

    def collected(self, body: Node, scope: Scope, given: str) -> str:
        """Return the name of an array of a program's outputs."""
        name = self.w.name("a")
        self.w.write(f"{name} = []")
        before = self.w.keep_place()
        found: list[tuple[Shape | None, Loop | None]] = []

        def append(text: str) -> None:
            parts = self.parts.get(text)
            self.w.write(f"{name}.append({text})")
            loop = Loop(self.w.within, before, self.w.keep_place(), parts) if parts else None
            found.append((self.shapes.get(text), loop))

        self.each(body, scope, given, Then(append, cheap=True))
        self.shapes[name] = Items(common({shape for shape, _ in found}))
        if len(found) == 1 and found[0][1] is not None and found[0][1].within == self.w.within:
            self.loops[name] = found[0][1]
        return name

    def _object(self, node: Object, scope: Scope, given: str) -> str:
        makers: list[Callable[[], str]] = []
        for key, value in node.entries:
            makers.append(partial(self.key, key, scope, given))
            makers.append(partial(self.value, value, scope, given))
        texts = self.sequence(makers)
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
        made = f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
        if all(is_text(key) for key in texts[::2]):
            known = zip(texts[::2], map(self.shapes.get, texts[1::2]), strict=True)
            self.shapes[made] = Keys(
                frozenset(texts[::2]), frozenset(key for key, shape in known if shape is RESULT)
            )
            self.parts[made] = {key: text for key, text in pairs if is_atom(text)}
        return self.short(made)

    def key(self, node: Node, scope: Scope, given: str) -> str:
        """Return an object's key."""
        return self.checked_key(node.at, self.value(node, scope, given))

    def checked_key(self, at: int, text: str) -> str:
        """Return a key that is a string, or an error."""
        if is_text(text):
            return text
        return mark(at, f"object_key({text})")

    # --- control ------------------------------------------------------------------------------

    def _if(self, node: If, scope: Scope, given: str) -> str:
        condition = self.truth(node.condition, scope, given)
        name = self.w.name()
        with self.w.aside(1) as first:
            yes = self.value(node.then, scope, given)
            if first:
                self.w.write(f"{name} = {yes}")
        with self.w.aside(1) as second:
            no = given if node.otherwise is None else self.value(node.otherwise, scope, given)
            if second or first:
                self.w.write(f"{name} = {no}")
        if not first and not second:
            return self.short(f"({yes} if {condition} else {no})")
        self.w.write(f"if {condition}:")
        if first:
            self.w.put(first)
        else:
            with self.w.aside(1) as lines:
                self.w.write(f"{name} = {yes}")
            self.w.put(lines)
        self.w.write("else:")
        self.w.put(second)
        return name

    def _alternative(self, node: Alternative, scope: Scope, given: str) -> str:
        if self.count(node.left, scope) != ONE:
            name = self.w.name()
            self.w.write(f"{name} = None")
            keep = Then(lambda text: self.w.write(f"{name} = {text}"), cheap=True)
            self.each(node.left, scope, given, keep)
            text = name
        else:
            text = self.value(node.left, scope, given)
        with self.w.aside(1) as lines:
            other = self.value(node.right, scope, given)
        if not lines:
            first, held = self.held(text)
            return self.short(
                f"({held} if {first} is not None and {held} is not False else {other})"
            )
        name = self.w.name()
        self.w.write(f"{name} = {text}")
        with self.w.block(f"if {name} is None or {name} is False:"):
            self.w.put(lines)
            self.w.write(f"{name} = {other}")
        return name

    def _try(self, node: Try, scope: Scope, given: str) -> str:
        """`try … catch …` where both have one output."""
        name, error = self.w.name(), self.w.name("e")
        with self.w.block("try:", counts=True):
            self.w.write(f"{name} = {self.value(node.body, scope, given)}")
        with self.w.block(f"except {self.caught} as {error}:", counts=True):
            caught = self.atom(f"caught({error})")
            if node.handler is not None:
                self.w.write(f"{name} = {self.value(node.handler, scope, caught)}")
        return name

    # --- given by other parts -----------------------------------------------------------------

    def call(self, node: Call, scope: Scope, given: str) -> str:
        """Return the one output of a call."""
        raise NotImplementedError

    def defined(self, scope: Scope, function: Any) -> Scope:
        """Return the scope in which a function is known."""
        raise NotImplementedError

    def bind_one(self, pattern: Any, text: str, scope: Scope) -> Scope:
        """Bind a pattern whose keys have one output each."""
        raise NotImplementedError


def shown_constant(value: Any) -> str:
    """Return a constant as a comment shows it."""
    return json.dumps(value)
