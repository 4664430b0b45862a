"""jq's grammar: tokens to a tree, by recursive descent and precedence climbing.

    query:   operand ("," operand)* ("|" query)?          lowest: `|`, to the right
    operand: "def" … query | "label" $x "|" query | expression ["as" patterns "|" query]
    expression, by precedence:  //  then  = |= += …  or  and  == < …  + -  * / %  term

Terms and patterns are in `terms.py`. `def`, `label` and `as` take all that follows as their body.
Nesting beyond `DEEPEST` is an error.
"""

from __future__ import annotations

from collections.abc import Callable

from transforms.jq.invalid import ExpressionError
from transforms.jq.lexer import Token, tokenize
from transforms.jq.syntax import (
    Alternative,
    Assign,
    Binary,
    Bind,
    Comma,
    Define,
    Function,
    Index,
    Label,
    Literal,
    Logic,
    Negate,
    Node,
    Pipe,
    Slice,
    Try,
)
from transforms.jq.terms import read_after_dot, read_bracket, read_patterns, read_term

DEEPEST = 256
"""Levels of nesting: nobody writes more by hand, and every level costs the compiler's stack."""
_LONGEST = 1 << 20

_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_ASSIGNMENTS = {"=", "|=", "+=", "-=", "*=", "/=", "%=", "//="}


def parse(text: str) -> Node:
    """Return the tree of a program. Raises ExpressionError with the place of what is wrong."""
    if len(text) > _LONGEST:
        raise ExpressionError(f"a program may have {_LONGEST:,} characters, this has {len(text):,}")
    return Parser(text).program()


def parse_function(text: str) -> list[Function]:
    """Return the functions of a text that has nothing but definitions."""
    parser = Parser(text)
    found = []
    while parser.is_("def"):
        found.append(parser.function())
    return found


class Parser:
    """One pass over the tokens of one program."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.at = 0
        self.depth = 0

    # --- tokens -------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        """Return the token that comes next."""
        return self.tokens[self.at]

    def next(self) -> Token:
        """Return the next token and pass it; the end stays."""
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def is_(self, *values: str) -> bool:
        """Whether an operator or keyword of `values` comes next."""
        token = self.token
        return token.kind in {"operator", "keyword"} and token.value in values

    def take(self, *values: str) -> Token | None:
        """Pass an operator or keyword of `values`, if one comes next."""
        return self.next() if self.is_(*values) else None

    def expect(self, value: str) -> Token:
        """Pass an operator or keyword, which must come next."""
        token = self.take(value)
        if token is None:
            raise self.wrong(value)
        return token

    def expect_kind(self, kind: str, shown: str) -> Token:
        """Pass a token of a kind, which must come next."""
        if self.token.kind != kind:
            raise self.wrong(shown)
        return self.next()

    def wrong(self, expected: str) -> ExpressionError:
        """Return the error of a token that does not belong here."""
        token = self.token
        return ExpressionError(
            f"expected {expected}, found {token.shown()}",
            self.place_of(token),
            hint=self._hint(token),
        )

    def place_of(self, token: Token) -> int:
        """Return the place in the text that an error about a token names."""
        return min(token.start, max(0, len(self.text) - 1)) if token.kind == "end" else token.start

    def _hint(self, token: Token) -> str:
        before = self.tokens[self.at - 1] if self.at else None
        if token.kind == "operator" and token.value == "=" and before is not None:
            return "Equality is written ==."
        if token.value in {"&", "&&"}:
            return "Both conditions: `and`."
        if token.kind == "operator" and token.value == "?//":
            return "It stands between the patterns of an `as`. For `?` and then `//`, put a space: `.a? // 1`."
        return ""

    # --- queries ------------------------------------------------------------------------------

    def program(self) -> Node:
        """Read all of the text."""
        if self.token.kind == "end":
            raise ExpressionError(
                "expected a jq program, found nothing", hint="`.` is everything there is."
            )
        tree = self.query()
        if self.token.kind != "end":
            raise self.wrong("an operator or the end of the program")
        return tree

    def deeper(self) -> None:
        """Count a level of nesting. Raises ExpressionError where there are too many."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionError("the program is nested too deeply", self.place_of(self.token))

    def query(self) -> Node:
        """Read stages between `|`."""
        self.deeper()
        start = self.token.start
        stages: list[Node] = []
        while True:
            items = [self.operand()]
            while self.take(","):
                items.append(self.operand())
            stages.append(items[0] if len(items) == 1 else Comma(items[0].at, tuple(items)))
            if not self.take("|"):
                break
        self.depth -= 1
        return stages[0] if len(stages) == 1 else Pipe(start, tuple(stages))

    def operand(self) -> Node:
        """Read what stands between commas and pipes."""
        if self.is_("def"):
            return self.definitions()
        label = self.take("label")
        if label is not None:
            name = self.expect_kind("variable", "$name").value
            self.expect("|")
            return Label(label.start, name, self.query())
        left = self.expression()
        if self.take("as"):
            patterns = read_patterns(self)
            self.expect("|")
            return Bind(left.at, left, patterns, self.query())
        return left

    def definitions(self) -> Node:
        """Read functions and the query that may call them."""
        functions = []
        while self.is_("def"):
            functions.append(self.function())
        if self.token.kind == "end":
            raise ExpressionError(
                "functions are defined here, and nothing follows that could call them",
                self.place_of(self.token),
                hint="End the program with what it puts out; `.` is everything there is.",
            )
        body = self.query()
        for function in reversed(functions):
            body = Define(function.at, function, body)
        return body

    def function(self) -> Function:
        """Read `def name(parameters): body;`."""
        start = self.expect("def").start
        token = self.token
        if token.kind not in {"name", "keyword"}:
            raise self.wrong("a function's name")
        self.next()
        parameters: list[str] = []
        if self.take("("):
            while True:
                parameter = self.token
                if parameter.kind not in {"name", "keyword", "variable"}:
                    raise self.wrong("a parameter's name")
                self.next()
                is_value = parameter.kind == "variable"
                parameters.append(f"${parameter.value}" if is_value else parameter.value)
                if not self.take(";"):
                    break
            self.expect(")")
        self.expect(":")
        body = self.query()
        self.expect(";")
        return Function(start, token.value, tuple(parameters), body)

    # --- operators ----------------------------------------------------------------------------

    def expression(self) -> Node:
        """Read operands of `//`, which binds to the right."""
        operands: list[tuple[int, Node]] = []
        left = self.assignment()
        while self.is_("//"):
            operands.append((self.next().start, left))
            left = self.assignment()
        for start, operand in reversed(operands):
            left = Alternative(start, operand, left)
        return left

    def assignment(self) -> Node:
        """Read one assignment, or what binds closer."""
        left = self.disjunction()
        token = self.token
        if token.kind != "operator" or token.value not in _ASSIGNMENTS:
            return left
        self.next()
        # `//` binds weaker than `=`, and yet `.a = .b // 1` is `(.a = .b) // 1` in jq.
        right = self.disjunction()
        if self.token.kind == "operator" and self.token.value in _ASSIGNMENTS:
            raise ExpressionError(
                f"{self.token.value} after {token.value} needs parentheses", self.token.start
            )
        return Assign(token.start, token.value, left, right)

    def _left(
        self, below: Callable[[], Node], operators: set[str], make: Callable[..., Node]
    ) -> Node:
        left = below()
        while self.is_(*operators):
            token = self.next()
            left = make(token.start, token.value, left, below())
        return left

    def disjunction(self) -> Node:
        """Read operands of `or`."""
        return self._left(self.conjunction, {"or"}, Logic)

    def conjunction(self) -> Node:
        """Read operands of `and`."""
        return self._left(self.comparison, {"and"}, Logic)

    def comparison(self) -> Node:
        """Read one comparison: they do not chain."""
        left = self.sum()
        if not self.is_(*_COMPARISONS):
            return left
        token = self.next()
        left = Binary(token.start, token.value, left, self.sum())
        if self.is_(*_COMPARISONS):
            raise ExpressionError(
                f"{self.token.value} after {token.value} needs parentheses", self.token.start
            )
        return left

    def sum(self) -> Node:
        """Read operands of + and -."""
        return self._left(self.product, {"+", "-"}, Binary)

    def product(self) -> Node:
        """Read operands of * / %."""
        return self._left(self.postfix, {"*", "/", "%"}, Binary)

    # --- terms --------------------------------------------------------------------------------

    def postfix(self) -> Node:
        """Read a term and all that belongs to it: `.a[0]."b"?`."""
        self.deeper()
        minus = self.take("-")
        if minus is not None:
            term: Node = Negate(minus.start, self.postfix())
            self.depth -= 1
            return term
        term = read_term(self)
        while True:
            token = self.token
            if token.kind == "field":
                self.next()
                term = Index(token.start, term, Literal(token.start, token.value), self.optional())
            elif self.is_("."):
                self.next()
                after = read_after_dot(self, term, token.start)
                if isinstance(after, Slice):  # libjq's grammar has none there
                    raise ExpressionError(
                        "a slice has no dot before it",
                        token.start,
                        hint="It stands right behind what it is of: .a[1:3].",
                    )
                term = after
            elif self.is_("["):
                term = read_bracket(self, term)
            elif self.take("?"):
                term = Try(token.start, term, None)
            else:
                break
        self.depth -= 1
        return term

    def optional(self) -> bool:
        """Pass a `?`; return whether one came."""
        return self.take("?") is not None
