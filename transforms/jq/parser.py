"""jq's grammar: tokens to a tree, by recursive descent and precedence climbing.

    query:   operand ("," operand)* ("|" query)?          lowest: `|`, to the right
    operand: "def" … query | "label" $x "|" query | expression ["as" patterns "|" query]
    expression, by precedence:  //  then  = |= += …  or  and  == < …  + -  * / %  term

`def`, `label` and `as` take all that follows as their body. Nesting beyond `DEEPEST` is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from transforms.jq.invalid import ExpressionError
from transforms.jq.lexer import Token, tokenize
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
    PatternVariable,
    Pipe,
    Reduce,
    Slice,
    Text,
    Try,
    Variable,
)

DEEPEST = 256
"""Levels of nesting: nobody writes more by hand, and every level costs the compiler's stack."""
_LONGEST = 1 << 20

_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_ASSIGNMENTS = {"=", "|=", "+=", "-=", "*=", "/=", "%=", "//="}
_CONSTANTS = {"true": True, "false": False, "null": None}
_MODULES = {"import", "include", "module"}


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
            self._place(token),
            hint=self._hint(token),
        )

    def _place(self, token: Token) -> int:
        return min(token.start, max(0, len(self.text) - 1)) if token.kind == "end" else token.start

    def _hint(self, token: Token) -> str:
        before = self.tokens[self.at - 1] if self.at else None
        if token.kind == "operator" and token.value == "=" and before is not None:
            return "Equality is written ==."
        if token.value in {"&", "&&"}:
            return "Both conditions: `and`."
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
            raise ExpressionError("the program is nested too deeply", self._place(self.token))

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
            patterns = self.patterns()
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
                self._place(self.token),
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
        while True:
            token = self.token
            if self.is_("?//"):  # `.a?//1`: in an expression it is `?` and `//`
                left = Try(token.start, left, None)
            elif not self.is_("//"):
                break
            self.next()
            operands.append((token.start, left))
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
        term = self.term()
        while True:
            token = self.token
            if token.kind == "field":
                self.next()
                term = Index(token.start, term, Literal(token.start, token.value), self._optional())
            elif self.is_("."):
                self.next()
                term = self.after_dot(term, token.start)
            elif self.is_("["):
                term = self.bracket(term)
            elif self.take("?"):
                term = Try(token.start, term, None)
            else:
                break
        self.depth -= 1
        return term

    def _optional(self) -> bool:
        return self.take("?") is not None

    def after_dot(self, term: Node, start: int) -> Node:
        """Read what may follow a lone dot."""
        if self.is_("["):
            return self.bracket(term)
        if self.token.kind in {"string_start", "format"}:
            key = self.string()
            return Index(start, term, key, self._optional())
        raise ExpressionError(
            f"expected a name, a string or [ after the dot, found {self.token.shown()}",
            self._place(self.token),
            hint='A name of other characters is written ."name" or ["name"].',
        )

    def bracket(self, term: Node) -> Node:
        """Read `[…]` behind a term."""
        start = self.expect("[").start
        if self.take("]"):
            return Iterate(start, term, self._optional())
        if self.take(":"):
            stop = self.query()
            self.expect("]")
            return Slice(start, term, None, stop, self._optional())
        key = self.query()
        if self.take(":"):
            last = None if self.is_("]") else self.query()
            self.expect("]")
            return Slice(start, term, key, last, self._optional())
        if not self.is_("]"):
            raise self.wrong("] or :")
        self.next()
        return Index(start, term, key, self._optional())

    def term(self) -> Node:
        """Read a term without what follows it."""
        token = self.token
        match token.kind:
            case "number":
                self.next()
                return Literal(token.start, number(token.value))
            case "field":
                self.next()
                name = Literal(token.start, token.value)
                return Index(token.start, Identity(token.start), name, self._optional())
            case "variable":
                self.next()
                if token.value == "__loc__":
                    return self.place(token)
                return Variable(token.start, token.value)
            case "string_start":
                return self.string()
            case "format":
                if self.tokens[self.at + 1].kind == "string_start":
                    return self.string()
                self.next()
                return Format(token.start, token.value)
            case "name":
                return self.name()
            case "keyword":
                return self.keyword()
            case "operator":
                return self.bracketed()
        raise self.wrong("an expression")

    def place(self, token: Token) -> Node:
        """Return the constant that `$__loc__` is."""
        line = self.text.count("\n", 0, token.start) + 1
        return Literal(token.start, {"file": "<top-level>", "line": line})

    def bracketed(self) -> Node:
        """Read a term that begins with an operator."""
        token = self.token
        if self.take("."):
            following = self.token
            if self.is_("[") or following.kind == "string_start":
                return self.after_dot(Identity(token.start), token.start)
            if following.kind == "format" and self.tokens[self.at + 1].kind == "string_start":
                return self.after_dot(Identity(token.start), token.start)
            return Identity(token.start)
        if self.take(".."):
            return Call(token.start, "recurse")
        if self.take("("):
            inside = self.query()
            self.expect(")")
            return inside
        if self.take("["):
            if self.take("]"):
                return Literal(token.start, [])
            body = self.query()
            self.expect("]")
            return Array(token.start, body)
        if self.is_("{"):
            return self.object()
        raise self.wrong("an expression")

    def string(self) -> Node:
        """Read a string with its format and interpolations."""
        start = self.token.start
        form = str(self.next().value) if self.token.kind == "format" else None
        self.expect_kind("string_start", "a string")
        parts: list[str | Node] = []
        while self.token.kind != "string_end":
            token = self.next()
            if token.kind == "text":
                parts.append(token.value)
                continue
            parts.append(self.query())
            if self.token.kind != "interpolation_end":
                raise self.wrong(") of the interpolation")
            self.next()
        self.next()
        if all(isinstance(part, str) for part in parts):
            return Literal(start, "".join(map(str, parts)))
        return Text(start, tuple(parts), form)

    def name(self) -> Node:
        """Read a constant or a call."""
        token = self.next()
        if not self.take("("):
            if token.value in _CONSTANTS:
                return Literal(token.start, _CONSTANTS[token.value])
            return Call(token.start, token.value)
        arguments = [self.query()]
        while self.take(";"):
            arguments.append(self.query())
        if not self.is_(")"):
            raise self.wrong("; or )")
        self.next()
        return Call(token.start, token.value, tuple(arguments))

    def keyword(self) -> Node:
        """Read a term that begins with a keyword."""
        token = self.token
        match token.value:
            case "if":
                self.next()
                return self.condition(token.start)
            case "try":
                self.next()
                body = self.postfix()
                handler = self.postfix() if self.take("catch") else None
                return Try(token.start, body, handler)
            case "reduce":
                self.next()
                source, patterns = self.source()
                self.expect("(")
                initial = self.query()
                self.expect(";")
                update = self.query()
                self.expect(")")
                return Reduce(token.start, source, patterns, initial, update)
            case "foreach":
                self.next()
                source, patterns = self.source()
                self.expect("(")
                initial = self.query()
                self.expect(";")
                update = self.query()
                extract = self.query() if self.take(";") else None
                self.expect(")")
                return Foreach(token.start, source, patterns, initial, update, extract)
            case "break":
                self.next()
                name = self.expect_kind("variable", "$name: the label to break to").value
                return Break(token.start, name)
            case "def":
                raise ExpressionError("a def here needs parentheses: (def f: …; …)", token.start)
            case "label":
                raise ExpressionError("a label here needs parentheses: (label $x | …)", token.start)
        if token.value in _MODULES:
            raise ExpressionError(
                f"{token.value} is not allowed: a flow has no modules", token.start
            )
        raise self.wrong("an expression")

    def source(self) -> tuple[Node, tuple[Pattern, ...]]:
        """Read `source as patterns`."""
        source = self.expression()
        self.expect("as")
        return source, self.patterns()

    def condition(self, start: int) -> Node:
        """Read the rest of an if."""
        tests: list[tuple[int, Node, Node]] = []
        while True:
            condition = self.query()
            self.expect("then")
            tests.append((start, condition, self.query()))
            start = self.token.start
            if not self.take("elif"):
                break
        otherwise = self.query() if self.take("else") else None
        if not self.is_("end"):
            raise self.wrong("elif, else or end" if otherwise is None else "end")
        self.next()
        for place, condition, then in reversed(tests):
            otherwise = If(place, condition, then, otherwise)
        if otherwise is None:
            raise self.wrong("a condition")
        return otherwise

    # --- objects ------------------------------------------------------------------------------

    def object(self) -> Node:
        """Read `{…}`."""
        start = self.expect("{").start
        entries: list[tuple[Node, Node]] = []
        while not self.take("}"):
            if entries:
                if not self.is_(","):
                    raise self.wrong(", or }")
                self.next()
                if self.take("}"):
                    break
            entries.append(self.entry())
        if not entries:
            return Literal(start, {})
        return Object(start, tuple(entries))

    def entry(self) -> tuple[Node, Node]:
        """Read one key and its value."""
        token = self.token
        match token.kind:
            case "name" | "keyword":
                self.next()
                key: Node = Literal(token.start, token.value)
            case "string_start" | "format":
                key = self.string()
            case "variable":
                self.next()
                is_place = token.value == "__loc__"
                variable = self.place(token) if is_place else Variable(token.start, token.value)
                if not is_place and self.take(":"):
                    return variable, self.value()
                return Literal(token.start, token.value), variable
            case "operator" if token.value == "(":
                self.next()
                key = self.query()
                self.expect(")")
                self._check_key(key)
                self.expect(":")
                return key, self.value()
            case _:
                raise ExpressionError(
                    f"expected an object's key, found {token.shown()}",
                    self._place(token),
                    hint="A key that is computed stands in parentheses: {(…): …}.",
                )
        if self.take(":"):
            return key, self.value()
        if not self.is_(",", "}"):
            raise self.wrong(": or , or }")
        return key, Index(token.start, Identity(token.start), key)

    def _check_key(self, key: Node) -> None:
        if isinstance(key, Literal) and not isinstance(key.value, str):
            raise ExpressionError("an object's key is a string, and this is not", key.at)

    def value(self) -> Node:
        """Read an object's value: no comma in it, and no `as` outside parentheses."""
        self.deeper()
        start = self.token.start
        stages = [self.expression()]
        while self.take("|"):
            stages.append(self.expression())
        self.depth -= 1
        return stages[0] if len(stages) == 1 else Pipe(start, tuple(stages))

    # --- patterns -----------------------------------------------------------------------------

    def patterns(self) -> tuple[Pattern, ...]:
        """Read `pattern ?// …`."""
        found = [self.pattern()]
        while self.take("?//"):
            found.append(self.pattern())
        return tuple(found)

    def pattern(self) -> Pattern:
        """Read one pattern."""
        self.deeper()
        token = self.token
        found: Pattern
        if token.kind == "variable":
            self.next()
            found = PatternVariable(token.start, token.value)
        elif self.take("["):
            items = [self.pattern()]
            while self.take(","):
                items.append(self.pattern())
            self.expect("]")
            found = PatternArray(token.start, tuple(items))
        elif self.take("{"):
            entries = [self.pattern_entry()]
            while self.take(","):
                entries.append(self.pattern_entry())
            self.expect("}")
            found = PatternObject(token.start, tuple(entries))
        else:
            raise self.wrong("$name, [ or {")
        self.depth -= 1
        return found

    def pattern_entry(self) -> tuple[Node, str | None, Pattern | None]:
        """Read one entry of an object pattern."""
        token = self.token
        match token.kind:
            case "variable":
                self.next()
                inner = self.pattern() if self.take(":") else None
                return Literal(token.start, token.value), token.value, inner
            case "name" | "keyword":
                self.next()
                key: Node = Literal(token.start, token.value)
            case "string_start" | "format":
                key = self.string()
            case "operator" if token.value == "(":
                self.next()
                key = self.query()
                self.expect(")")
                self._check_key(key)
            case _:
                raise self.wrong("$name or a key")
        self.expect(":")
        return key, None, self.pattern()


_INTEGER = re.compile(r"[0-9]+")
_LONGEST_INTEGER = 4300
"""Digits: what Python's own reader takes; nobody counts with more."""


def number(text: str) -> int | float:
    """Return a literal's value: integers exact, whatever their size; others as doubles."""
    if _INTEGER.fullmatch(text) and len(text) <= _LONGEST_INTEGER:
        return int(text)
    value = float(text)
    if math.isfinite(value) and value.is_integer() and abs(value) < 1e17:
        return int(value)
    return value
