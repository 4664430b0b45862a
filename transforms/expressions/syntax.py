"""jq's grammar, as far as a program can be understood from outside: a tree, or NotUnderstood.

The tree answers what a program reads of its context (reads.py), and makes columns of Python for the
simple ones (generated.py). A program that is not understood here may well be a good one: libjq, which
runs it, decides that.
Precedence as in jq's own grammar: `|` `,` `//` assignments `or` `and` comparisons `+ -` `* / %`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transforms.expressions.tokens import Token

_DEEPEST = 100


class NotUnderstood(Exception):  # noqa: N818 - no error: libjq takes it from here
    """The program uses what this grammar leaves out; the text says what."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`.`: the input."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a string without interpolation, true, false or null."""

    value: Any


@dataclass(frozen=True, slots=True)
class Index:
    """`.a`, `."a"`, `[…]`, `.[…]`."""

    target: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands: comparison, arithmetic, `and`, `or`, `//`, `,`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Pipe:
    """`left | right`, or with `binds` the binding `left as $x | right`."""

    left: Node
    right: Node
    binds: bool = False


@dataclass(frozen=True, slots=True)
class Object:
    """Keys and values, in order."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Array:
    """`[…]`; None for `[]`."""

    items: Node | None


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments, which are programs."""

    name: str
    arguments: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Optional:
    """`…?` and `try …` without a `catch`."""

    body: Node


@dataclass(frozen=True, slots=True)
class Form:
    """Anything else made of parts.

    `over_input` see the form's own input; `over_other` see values made on the way, as the update
    of a reduce or a catch does. `reads_input`: the form itself reads its input.
    """

    name: str
    over_input: tuple[Node, ...]
    over_other: tuple[Node, ...] = ()
    reads_input: bool = False


Node = Identity | Literal | Index | Binary | Pipe | Object | Array | Call | Optional | Form

_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_ASSIGNMENTS = {"=", "|=", "+=", "-=", "*=", "/=", "%=", "//=", "?//"}
_RESERVED = {
    "def", "if", "then", "elif", "else", "end", "as", "reduce", "foreach", "try", "catch",
    "label", "and", "or", "import", "include", "__loc__",
}  # fmt: skip
_STRINGS = {"string", "interpolated"}
_CONSTANTS = {"true": True, "false": False, "null": None}


def parse(tokens: Sequence[Token]) -> Node:
    """Return the program's tree. Raises NotUnderstood."""
    parser = _Parser([token for token in tokens if token.kind != "end"])
    tree = parser.pipe()
    parser.expect_end()
    return tree


class _Parser:
    def __init__(self, tokens: Sequence[Token], depth: int = 0) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = depth

    # --- tokens -------------------------------------------------------------------------------

    def peek(self) -> str:
        """Return the next operator's or reserved name's text; "" for anything else."""
        if self.at >= len(self.tokens):
            return ""
        token = self.tokens[self.at]
        if token.kind == "op" or (token.kind == "name" and token.value in _RESERVED):
            return token.value
        return ""

    def take(self, text: str) -> bool:
        if self.peek() != text:
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise NotUnderstood(f"it expects {text}")

    def next(self) -> Token:
        if self.at >= len(self.tokens):
            raise NotUnderstood("it ends early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect_end(self) -> None:
        if self.at < len(self.tokens):
            raise NotUnderstood(f"it uses {self.tokens[self.at].value}")

    # --- expressions --------------------------------------------------------------------------

    def pipe(self, *, comma: bool = True) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise NotUnderstood("it is nested deeply")
        left = self.comma() if comma else self.alternative()
        if self.take("as"):
            self.pattern()
            self.expect("|")
            left = Pipe(left, self.pipe(comma=comma), binds=True)
        elif self.take("|"):
            left = Pipe(left, self.pipe(comma=comma))
        self.depth -= 1
        return left

    def pattern(self) -> None:
        """Pass over `$name`; destructuring is left to libjq."""
        if self.next().kind != "variable":
            raise NotUnderstood("it destructures")

    def comma(self) -> Node:
        left = self.alternative()
        while self.take(","):
            left = Binary(",", left, self.alternative())
        return left

    def alternative(self) -> Node:
        left = self.disjunction()
        if self.peek() in _ASSIGNMENTS:
            raise NotUnderstood(f"it uses {self.peek()}")
        # `//` associates to the right.
        return Binary("//", left, self.alternative()) if self.take("//") else left

    def disjunction(self) -> Node:
        left = self.conjunction()
        while self.take("or"):
            left = Binary("or", left, self.conjunction())
        return left

    def conjunction(self) -> Node:
        left = self.comparison()
        while self.take("and"):
            left = Binary("and", left, self.comparison())
        return left

    def comparison(self) -> Node:
        left = self.sum()
        operator = self.peek()
        if operator in _COMPARISONS:
            self.at += 1
            left = Binary(operator, left, self.sum())
            if self.peek() in _COMPARISONS:
                raise NotUnderstood("it chains comparisons")
        return left

    def sum(self) -> Node:
        left = self.product()
        while self.peek() in {"+", "-"}:
            left = Binary(self.next().value, left, self.product())
        return left

    def product(self) -> Node:
        left = self.unary()
        while self.peek() in {"*", "/", "%"}:
            left = Binary(self.next().value, left, self.unary())
        return left

    def unary(self) -> Node:
        if not self.take("-"):
            return self.postfix()
        operand = self.postfix()
        if isinstance(operand, Literal) and type(operand.value) in {int, float}:
            return Literal(-operand.value)
        return Form("-", (operand,))

    # --- terms --------------------------------------------------------------------------------

    def postfix(self) -> Node:
        if self.peek() in {"reduce", "foreach", "if", "try", "label", "def"}:
            term = self.keyword(self.next().value)
        else:
            term = self.term()
        while True:
            token = self.tokens[self.at] if self.at < len(self.tokens) else None
            if token is None:
                return term
            if token.kind == "field":
                self.at += 1
                term = Index(term, Literal(token.value))
            elif self.take("?"):
                term = Optional(term)
            elif self.take("["):
                term = self.bracket(term)
            elif self.peek() == "." and self.at + 1 < len(self.tokens):
                self.at += 1
                term = self.after_dot(term)
            elif self.peek() == "as":
                # `term as $x | body` binds tighter than any operator before it.
                self.at += 1
                self.pattern()
                self.expect("|")
                return Pipe(term, self.pipe(), binds=True)
            else:
                return term

    def after_dot(self, term: Node) -> Node:
        """Read what may follow a lone dot: `."a"` or `.[…]`."""
        if self.take("["):
            return self.bracket(term)
        token = self.next()
        if token.kind not in _STRINGS:
            raise NotUnderstood("a dot stands alone")
        return Index(term, self.string(token))

    def bracket(self, term: Node) -> Node:
        if self.take("]"):
            return Form("[]", (term,))
        if self.take(":"):
            end = self.pipe()
            self.expect("]")
            return Form("slice", (term, end))
        # Keys and ends are evaluated over the whole term's input, not over the target.
        key = self.pipe()
        if self.take(":"):
            ends = (key,) if self.peek() == "]" else (key, self.pipe())
            self.expect("]")
            return Form("slice", (term, *ends))
        self.expect("]")
        return Index(term, key)

    def term(self) -> Node:
        token = self.next()
        match token.kind:
            case "field":
                return Index(Identity(), Literal(token.value))
            case "number":
                return Literal(_number(token.value))
            case "string" | "interpolated":
                return self.string(token)
            case "variable":
                return Call(token.value)
            case "format":
                if self.at < len(self.tokens) and self.tokens[self.at].kind in _STRINGS:
                    return Form("format", (self.string(self.next()),))
                return Form("format", (), reads_input=True)
            case "name":
                return self.name(token)
        match token.value:
            case ".":
                following = self.tokens[self.at] if self.at < len(self.tokens) else None
                if following is not None and (following.kind in _STRINGS or self.peek() == "["):
                    return self.after_dot(Identity())
                return Identity()
            case "..":
                return Form("..", (), reads_input=True)
            case "(":
                inside = self.pipe()
                self.expect(")")
                return inside
            case "[":
                if self.take("]"):
                    return Array(None)
                items = self.pipe()
                self.expect("]")
                return Array(items)
            case "{":
                return self.object()
        raise NotUnderstood(f"it uses {token.value}")

    def string(self, token: Token) -> Node:
        if token.kind == "string":
            return Literal(token.value)
        parts: list[Node] = []
        tokens: list[Token] = []
        for inner in token.inner:
            if inner.kind != "end":
                tokens.append(inner)
                continue
            parser = _Parser(tokens, self.depth + 1)
            parts.append(parser.pipe())
            parser.expect_end()
            tokens = []
        return Form("interpolation", tuple(parts))

    def name(self, token: Token) -> Node:
        name = token.value
        if name in _RESERVED:
            raise NotUnderstood(f"it uses {name}")
        if name in _CONSTANTS:
            return Literal(_CONSTANTS[name])
        if not self.take("("):
            return Call(name)
        arguments = [self.pipe()]
        while self.take(";"):
            arguments.append(self.pipe())
        self.expect(")")
        return Call(name, tuple(arguments))

    def object(self) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self.take("}"):
            if entries:
                self.expect(",")
            entries.append(self.entry())
        return Object(tuple(entries))

    def entry(self) -> tuple[Node, Node]:
        token = self.next()
        key: Node
        if token.kind == "name":
            key = Literal(token.value)
        elif token.kind in _STRINGS:
            key = self.string(token)
        elif token.kind == "variable":
            return Literal(token.value[1:]), Call(token.value)
        elif token.kind == "op" and token.value == "(":
            key = self.pipe()
            self.expect(")")
            self.expect(":")
            return key, self.value()
        else:
            raise NotUnderstood(f"it uses {token.value} as a key")
        if not self.take(":"):
            return key, Index(Identity(), key)
        return key, self.value()

    def value(self) -> Node:
        """Read an object's value: terms joined by `|` and, since jq 1.7, operators but a comma."""
        return self.pipe(comma=False)

    def keyword(self, word: str) -> Node:
        match word:
            case "if":
                return self.condition()
            case "try":
                body = self.postfix()
                if self.take("catch"):
                    return Form("try", (body,), (self.postfix(),))
                return Optional(body)
            case "reduce" | "foreach":
                source = self.source()
                self.expect("(")
                initial = self.pipe()
                over = []
                while self.take(";"):
                    over.append(self.pipe())
                self.expect(")")
                return Form(word, (source, initial), tuple(over))
        raise NotUnderstood(f"it uses {word}")

    def source(self) -> Node:
        """Read the `term as $x` of reduce and foreach."""
        place = next(
            (k for k in range(self.at, len(self.tokens)) if self.tokens[k].value == "as"), None
        )
        if place is None:
            raise NotUnderstood("it expects as")
        inner = _Parser(self.tokens[self.at : place], self.depth)
        term = inner.postfix()
        inner.expect_end()
        self.at = place + 1
        self.pattern()
        return term

    def condition(self) -> Node:
        tests = [self.pipe()]
        self.expect("then")
        tests.append(self.pipe())
        while self.take("elif"):
            tests.append(self.pipe())
            self.expect("then")
            tests.append(self.pipe())
        tests.append(self.pipe() if self.take("else") else Identity())
        self.expect("end")
        return Form("if", tuple(tests))


def _number(text: str) -> int | float:
    if text.isdigit() and len(text) <= 300:
        return int(text)
    value = float(text)
    if math.isinf(value):
        raise NotUnderstood("a number is out of range")
    return value
