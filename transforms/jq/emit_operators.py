"""Operators in generated code: the common case in place, everything else by a call.

The right operand is evaluated first, as in jq, which shows when both fail.
"""

from __future__ import annotations

from transforms.jq.emit import Base, can_fail, is_atom
from transforms.jq.scope import Scope
from transforms.jq.shapes import RESULT
from transforms.jq.syntax import Alternative, Binary, Call, If, Literal, Logic, Node, Pipe
from transforms.jq.writer import mark

FUNCTIONS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "modulo"}
_ORDERS = {"<": "less", "<=": "at_most", ">": "more", ">=": "at_least"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NEGATED = {"<": ">=", "<=": ">"}
_BOOLEAN = frozenset(
    {
        "not", "has", "in", "any", "all", "isempty", "startswith", "endswith", "contains", "inside",
        "isvalid", "test", "IN", "isnan", "isinfinite", "isnormal", "isfinite",
    }
)  # fmt: skip
_LIMIT = "9000000000000000000"
_WIDE = "1e300"
"""Within it a double is finite. What has a fraction is far smaller."""
_TYPES = {
    '"object"': ("dict",),
    '"array"': ("list",),
    '"string"': ("str",),
    '"number"': ("int", "float"),
    '"boolean"': ("bool",),
}
"""Names that `type` gives → Python's types."""


def is_number(text: str) -> bool:
    """Whether an expression is a number written out."""
    plain = text.strip("()-")
    return plain[:1].isdigit() and not plain.strip("0123456789.e-")


def is_text(text: str) -> bool:
    """Whether an expression is a string written out."""
    return text[:1] == '"' and is_atom(text)


class Operators(Base):
    """Arithmetic, comparison and truth."""

    def operands(self, left: Node, right: Node, scope: Scope, given: str) -> tuple[str, str]:
        """Return both operands, the right one evaluated first where that can be told."""
        two, one = self.sequence(
            [lambda: self.value(right, scope, given), lambda: self.value(left, scope, given)]
        )
        return one, two

    def binary(
        self, at: int, operator: str, one: str, two: str, *, instead: str | None = None
    ) -> str:
        """Return `one operator two` of jq, `instead` where they are no numbers."""
        if operator in {"==", "!="}:
            return self._equality(operator, one, two, at)
        if operator in _ORDERS:
            return self._order(at, operator, one, two)
        if operator in {"+", "-", "*"}:
            return self._arithmetic(at, operator, one, two, instead)
        two = self.ahead(one, two)
        return self.short(mark(at, f"{FUNCTIONS[operator]}({one}, {two})"))

    def _arithmetic(self, at: int, operator: str, one: str, two: str, instead: str | None) -> str:
        """Return + - * with numbers in place.

        A whole result of doubles is left to the function, which makes an integer of it; an integer
        too large for a double raises OverflowError, and what is no number may raise TypeError: upon
        either the program runs without this.
        """
        two = self.ahead(one, two)
        if self.careful or is_text(one) or is_text(two) or (is_number(one) and is_number(two)):
            return self.short(mark(at, instead or f"{FUNCTIONS[operator]}({one}, {two})"))
        one, two = self.atom(one), self.atom(two)
        call = mark(at, instead or f"{FUNCTIONS[operator]}({one}, {two})")
        same = f"{one} {operator} {two}"
        known = self.w.named.get(same)
        if known is not None:
            return known
        made = self.w.name()
        constants = [text.strip("()") for text in (one, two) if is_number(text)]
        if any("." in text and "e" not in text for text in constants):
            # A double for sure; finite too, unless it is multiplied by more than 1.
            tests = [] if self.are_results(one, two) else self.are_numbers(one, two)
            fails = [*(f"not {test}" for test in tests), f"({made} := {same}).is_integer()"]
            if operator == "*" and not all(abs(float(text)) <= 1 for text in constants):
                fails.append(f"not -{_WIDE} < {made} < {_WIDE}")
        else:
            made_here = f"({made} := {same})"
            checks = {
                "double": self.has_fraction(made, made_here),
                "integer": f"-{_LIMIT} < {made_here} < {_LIMIT}",
            }
            good = [f"{when} and {checks[what]}" for what, when in self._results(one, two)]
            fails = [f"not ({' or '.join(good)})"]
        with self.w.block(f"if {' or '.join(fails)}:"):
            self.w.write(f"{made} = {call}")
        if "s" not in {one[0], two[0]}:
            self.w.named[same] = made
        if operator != "+":  # null + true is true
            self.shapes[made] = RESULT
        return made

    def ahead(self, one: str, two: str) -> str:
        """Return the right operand, evaluated before the left one where both may raise."""
        return self.atom(two) if can_fail(one) and can_fail(two) else two

    def are_results(self, *texts: str) -> bool:
        """Whether operands are results of arithmetic, or numbers written out."""
        return all(is_number(text) or self.shapes.get(text) is RESULT for text in texts)

    def _results(self, one: str, two: str) -> list[tuple[str, str]]:
        """Return what numbers make of each other, and the condition on which the operands do.

        A double times an integer, as in a price times a quantity, is told by two questions.
        """
        first, *others = [text for text in dict.fromkeys((one, two)) if not is_number(text)]
        constants = [text.strip("()-") for text in (one, two) if is_number(text)]
        if not all(text.isdigit() for text in constants):
            return [("double", " and ".join(self.are_numbers(one, two)))]
        doubles = f"type({first}) is float"
        integers = f"type({first}) is int"
        for other in others:
            doubles = (
                f"({doubles} and (type({other}) is int or type({other}) is float)"
                f" or {integers} and type({other}) is float)"
            )
            integers += f" and type({other}) is int"
        return [("double", doubles), ("integer", integers)]

    @staticmethod
    def has_fraction(name: str, first: str = "") -> str:
        """Return the condition on which a double is finite and not whole; `first`: its first mention."""
        return f"not {first or name}.is_integer() and -{_WIDE} < {name} < {_WIDE}"

    @staticmethod
    def are_numbers(one: str, two: str) -> list[str]:
        """Return conditions on which operands are numbers."""
        return [
            f"(type({text}) is float or type({text}) is int)"
            for text in dict.fromkeys((two, one))
            if not is_number(text)
        ]

    def _equality(self, operator: str, one: str, two: str, at: int) -> str:
        for this, other in ((one, two), (two, one)):
            if this in {"None", "True", "False"}:
                return f"({other} {'is' if operator == '==' else 'is not'} {this})"
            if other in self.kinds and this in _TYPES:
                return self._is_kind(operator, self.kinds[other], _TYPES[this])
            if is_text(this):
                return f"({other} {operator} {this})"
        two = self.ahead(one, two)
        call = mark(at, f"equal({one}, {two})")
        return self.short(call if operator == "==" else f"(not {call})")

    def _is_kind(self, operator: str, text: str, kinds: tuple[str, ...]) -> str:
        first, name = self.held(text)
        said = "is" if operator == "==" else "is not"
        tests = [f"type({first}) {said} {kinds[0]}"]
        tests += [f"type({name}) {said} {kind}" for kind in kinds[1:]]
        return f"({(' or ' if operator == '==' else ' and ').join(tests)})"

    def _order(self, at: int, operator: str, one: str, two: str) -> str:
        two = self.ahead(one, two)
        if is_number(one) and is_number(two):
            return mark(at, f"{_ORDERS[operator]}({one}, {two})")
        if is_number(one):
            one, two, operator = two, one, _MIRRORED[operator]
        if is_number(two):
            first, held = self.held(one)
            kind = self.w.name("t")
            call = mark(at, f"{_ORDERS[operator]}({held}, {two})")
            # NaN is less than any number in jq: `not >=` says so, and `<` does not.
            quick = f"{held} {operator} {two}"
            if operator in _NEGATED:
                quick = f"not {held} {_NEGATED[operator]} {two}"
            return f"({quick} if ({kind} := type({first})) is int or {kind} is float else {call})"
        return self.short(mark(at, f"{_ORDERS[operator]}({one}, {two})"))

    # --- truth --------------------------------------------------------------------------------

    def is_boolean(self, node: Node, scope: Scope) -> bool:
        """Whether a program's output is true or false and nothing else."""
        match node:
            case Literal(_, value):
                return value is True or value is False
            case Binary(_, operator, _, _):
                return operator not in FUNCTIONS
            case Logic():
                return True
            case Call(_, name, arguments):
                return name in _BOOLEAN and (name, len(arguments)) not in scope.functions
            case Pipe(_, parts):
                return self.is_boolean(parts[-1], scope)
            case If(_, _, then, otherwise) if otherwise is not None:
                return self.is_boolean(then, scope) and self.is_boolean(otherwise, scope)
            case Alternative(_, left, right):
                return self.is_boolean(left, scope) and self.is_boolean(right, scope)
        return False

    def truth(self, node: Node, scope: Scope, given: str) -> str:
        """Return whether the one output of a program is true, as Python's own truth."""
        text = self.value(node, scope, given)
        return text if self.is_boolean(node, scope) else self.truth_of(text)

    def truth_of(self, text: str) -> str:
        """Return whether a value is neither null nor false."""
        if text in {"None", "False"}:
            return "False"
        if text == "True" or is_text(text) or is_number(text):
            return "True"
        first, name = self.held(text)
        return f"({first} is not None and {name} is not False)"

    def logic(self, node: Logic, scope: Scope, given: str) -> str:
        """Return `and` or `or` of programs with one output each."""
        first = self.truth(node.left, scope, given)
        with self.w.aside(1) as lines:
            second = self.truth(node.right, scope, given)
            if lines:
                name = self.w.name()
                self.w.write(f"{name} = {second}")
        if not lines:
            return self.short(f"({first} {node.operator} {second})")
        self.w.write(f"{name} = {first}")
        self.w.write(f"if {'' if node.operator == 'and' else 'not '}{name}:")
        self.w.put(lines)
        return name
