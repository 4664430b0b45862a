"""`map(… * …) | add`: one loop that adds numbers up, instead of an array of checked numbers.

What jq does is to make an array and to add its elements. That shows where an element is no number, or
where the sum is zero or nothing: then it is done that way, by a function that is written beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from transforms.jq.counting import ONE, Counter
from transforms.jq.emit import Then
from transforms.jq.emit_operators import FUNCTIONS, Operators
from transforms.jq.scope import Scope
from transforms.jq.shapes import Keys
from transforms.jq.syntax import Array, Binary, Call, Identity, Iterate, Literal, Node, Pipe
from transforms.jq.writer import Writer, mark


def mapped(node: Call) -> Pipe:
    """Return the program whose outputs `map` puts into an array."""
    body = node.arguments[0]
    parts = body.parts if isinstance(body, Pipe) else (body,)
    return Pipe(node.at, (Iterate(node.at, Identity(node.at)), *parts))


@dataclass(frozen=True, slots=True)
class Loop:
    """The loop that makes an array of objects, with room for sums of what it makes."""

    within: str
    """The function that it stands in."""
    before: list[str]
    inside: list[str]
    parts: Mapping[str, str]
    """Key → name of the value that each element gets there."""


class Sums(Operators):
    """Sums of arithmetic."""

    def __init__(self, writer: Writer, counter: Counter) -> None:
        super().__init__(writer, counter)
        self.parts: dict[str, dict[str, str]] = {}
        """Objects, as they are written, and the names of the values in them by key."""
        self.loops: dict[str, Loop] = {}
        """Names of arrays, and the loops that make them."""

    def sum_of(self, parts: Sequence[Node], scope: Scope, given: str) -> str | None:
        """Return `parts[0] | parts[1]` as the name of a sum; None where it is none of arithmetic."""
        if self.careful or len(parts) < 2 or not self._is_builtin(parts[1], "add", 0, scope):
            return None
        body = self._gathered(parts[0], scope)
        if not isinstance(body, Pipe) or not isinstance(body.parts[-1], Binary):
            return None
        last, source = body.parts[-1], Pipe(body.at, body.parts[:-1])
        if not self._is_sum(last, scope) or self.count(source, scope) == ONE:
            return None
        given = self.atom(given)
        total = self._sum_where_made(last, source, scope, given)
        if total is None:
            total = self._sum_in_loop(last, source, scope, given)
        made = self.w.name()
        as_it_is = f"type({total}) is float and {self.has_fraction(total)}"
        self.w.write(f"{made} = {total} if {as_it_is} else sum_of_numbers({total})")
        with self.w.block(f"if {made} is None:"):
            one_by_one = f"add_all(list({self.lift(body, scope, given)}))"
            self.w.write(f"{made} = {mark(parts[1].at, one_by_one)}")
        return made

    def _sum_where_made(
        self, summand: Binary, source: Pipe, scope: Scope, given: str
    ) -> str | None:
        """Add up in the loop that makes an array what results it puts there, and return the sum's name.

        None where it is another array, or more is to be done with its elements. What is no number
        there raises TypeError as the other does, and has no sum: then the program is run carefully.
        """
        loop = self.loops.get(given)
        if loop is None or loop.within != self.w.within or summand.operator == "*":
            return None
        match source.parts:
            case (Iterate(_, Identity()),):
                pass
            case _:
                return None
        element = self.w.name()  # of which nothing but its parts is asked for
        self.shapes[element] = Keys(frozenset(loop.parts))
        with self.w.aside(1) as lines:
            self.w.named |= {f"{element}[{key}]": part for key, part in loop.parts.items()}
            one, two = self.operands(summand.left, summand.right, scope, element)
        if lines or not self.are_results(one, two):
            return None
        total = self.w.name("s")
        loop.before.append(f"{total} = 0")
        loop.inside.append(f"{total} = {total} + ({one} {summand.operator} {two})")
        return total

    def _sum_in_loop(self, last: Binary, source: Pipe, scope: Scope, given: str) -> str:
        """Write a loop that adds up, and return the sum's name."""
        total = self.w.name("s")
        self.w.write(f"{total} = 0")
        unchecked = False

        def add(text: str) -> None:
            nonlocal unchecked
            one, two = self.operands(last.left, last.right, scope, self.atom(text))
            is_sure = last.operator != "*" and self.are_results(one, two)
            if not is_sure:
                two = self.ahead(one, two)
                one, two = self.atom(one), self.atom(two)
            both = f"{total} + ({one} {last.operator} {two})"
            if is_sure:
                unchecked = True
                self.w.write(f"{total} = {both}")
                return
            call = mark(last.at, f"no_sum({FUNCTIONS[last.operator]}({one}, {two}))")
            tests = " and ".join(self.are_numbers(one, two)) or "True"
            self.w.write(f"{total} = {both} if {tests} else {call}")

        with self.w.aside(1) as lines:
            self.each(source, scope, given, Then(add))
        if unchecked:
            self.w.write("try:")
            self.w.put(lines)
            with self.w.block("except TypeError:"):
                self.w.write(f"{total} = 0")
        else:
            self.w.put([(indent - 1, text) for indent, text in lines])
        return total

    def _gathered(self, node: Node, scope: Scope) -> Node | None:
        """Return the program whose outputs an array is made of, None for what is no array."""
        if isinstance(node, Array):
            return node.body
        if self._is_builtin(node, "map", 1, scope):
            return mapped(node)
        return None

    def _is_sum(self, node: Binary, scope: Scope) -> bool:
        """Whether numbers are likely: each side has one output, and neither is a text."""
        return node.operator in {"+", "-", "*"} and all(
            self.count(side, scope) == ONE
            and not (isinstance(side, Literal) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )

    def _is_builtin(self, node: Node, name: str, arity: int, scope: Scope) -> TypeGuard[Call]:
        return (
            isinstance(node, Call)
            and (node.name, len(node.arguments)) == (name, arity)
            and (name, arity) not in scope.functions
        )
