"""jq's terms: constants, strings, calls, brackets, objects, `if`, `reduce`; and patterns behind `as`.

Functions that read one each from where a Parser stands. What is inside of one, up to a bracket or a
keyword, they have the parser read (`parser.py`).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from transforms.jq.invalid import ExpressionError
from transforms.jq.lexer import Token
from transforms.jq.syntax import (
    Array,
    Break,
    Call,
    Foreach,
    Format,
    Identity,
    If,
    Index,
    Iterate,
    Literal,
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

if TYPE_CHECKING:
    from transforms.jq.parser import Parser

_CONSTANTS = {"true": True, "false": False, "null": None}
_MODULES = {"import", "include", "module"}


def read_after_dot(parser: Parser, term: Node, start: int) -> Node:
    """Read what may follow a lone dot."""
    if parser.is_("["):
        return read_bracket(parser, term)
    if parser.token.kind in {"string_start", "format"}:
        key = read_string(parser)
        return Index(start, term, key, parser.optional())
    raise ExpressionError(
        f"expected a name, a string or [ after the dot, found {parser.token.shown()}",
        parser.place_of(parser.token),
        hint='A name of other characters is written ."name" or ["name"].',
    )


def read_bracket(parser: Parser, term: Node) -> Node:
    """Read `[…]` behind a term."""
    start = parser.expect("[").start
    if parser.take("]"):
        return Iterate(start, term, parser.optional())
    if parser.take(":"):
        stop = parser.query()
        parser.expect("]")
        return Slice(start, term, None, stop, parser.optional())
    key = parser.query()
    if parser.take(":"):
        last = None if parser.is_("]") else parser.query()
        parser.expect("]")
        return Slice(start, term, key, last, parser.optional())
    if not parser.is_("]"):
        raise parser.wrong("] or :")
    parser.next()
    return Index(start, term, key, parser.optional())


def read_term(parser: Parser) -> Node:
    """Read a term without what follows it."""
    token = parser.token
    match token.kind:
        case "number":
            parser.next()
            return Literal(token.start, number(token.value))
        case "field":
            parser.next()
            name = Literal(token.start, token.value)
            return Index(token.start, Identity(token.start), name, parser.optional())
        case "variable":
            parser.next()
            if token.value == "__loc__":
                return read_place(parser, token)
            return Variable(token.start, token.value)
        case "string_start":
            return read_string(parser)
        case "format":
            if parser.tokens[parser.at + 1].kind == "string_start":
                return read_string(parser)
            parser.next()
            return Format(token.start, token.value)
        case "name":
            return read_name(parser)
        case "keyword":
            return read_keyword(parser)
        case "operator":
            return read_bracketed(parser)
    raise parser.wrong("an expression")


def read_place(parser: Parser, token: Token) -> Node:
    """Return the constant that `$__loc__` is."""
    line = parser.text.count("\n", 0, token.start) + 1
    return Literal(token.start, {"file": "<top-level>", "line": line})


def read_bracketed(parser: Parser) -> Node:
    """Read a term that begins with an operator."""
    token = parser.token
    if parser.take("."):
        following = parser.token
        if parser.is_("[") or following.kind == "string_start":
            return read_after_dot(parser, Identity(token.start), token.start)
        if following.kind == "format" and parser.tokens[parser.at + 1].kind == "string_start":
            return read_after_dot(parser, Identity(token.start), token.start)
        return Identity(token.start)
    if parser.take(".."):
        return Call(token.start, "recurse")
    if parser.take("("):
        inside = parser.query()
        parser.expect(")")
        return inside
    if parser.take("["):
        if parser.take("]"):
            return Literal(token.start, [])
        body = parser.query()
        parser.expect("]")
        return Array(token.start, body)
    if parser.is_("{"):
        return read_object(parser)
    raise parser.wrong("an expression")


def read_string(parser: Parser) -> Node:
    """Read a string with its format and interpolations."""
    start = parser.token.start
    form = str(parser.next().value) if parser.token.kind == "format" else None
    parser.expect_kind("string_start", "a string")
    parts: list[str | Node] = []
    while parser.token.kind != "string_end":
        token = parser.next()
        if token.kind == "text":
            parts.append(token.value)
            continue
        parts.append(parser.query())
        if parser.token.kind != "interpolation_end":
            raise parser.wrong(") of the interpolation")
        parser.next()
    parser.next()
    if all(isinstance(part, str) for part in parts):
        return Literal(start, "".join(map(str, parts)))
    return Text(start, tuple(parts), form)


def read_name(parser: Parser) -> Node:
    """Read a constant or a call."""
    token = parser.next()
    if not parser.take("("):
        if token.value in _CONSTANTS:
            return Literal(token.start, _CONSTANTS[token.value])
        return Call(token.start, token.value)
    arguments = [parser.query()]
    while parser.take(";"):
        arguments.append(parser.query())
    if not parser.is_(")"):
        raise parser.wrong("; or )")
    parser.next()
    return Call(token.start, token.value, tuple(arguments))


def read_keyword(parser: Parser) -> Node:
    """Read a term that begins with a keyword."""
    token = parser.token
    match token.value:
        case "if":
            parser.next()
            return read_condition(parser, token.start)
        case "try":
            parser.next()
            body = parser.postfix()
            handler = parser.postfix() if parser.take("catch") else None
            return Try(token.start, body, handler)
        case "reduce":
            parser.next()
            fold = read_fold(parser)
            parser.expect(")")
            return Reduce(token.start, *fold)
        case "foreach":
            parser.next()
            fold = read_fold(parser)
            extract = parser.query() if parser.take(";") else None
            parser.expect(")")
            return Foreach(token.start, *fold, extract)
        case "break":
            parser.next()
            name = parser.expect_kind("variable", "$name: the label to break to").value
            return Break(token.start, name)
        case "def":
            raise ExpressionError("a def here needs parentheses: (def f: …; …)", token.start)
        case "label":
            raise ExpressionError("a label here needs parentheses: (label $x | …)", token.start)
    if token.value in _MODULES:
        raise ExpressionError(f"{token.value} is not allowed: a flow has no modules", token.start)
    raise parser.wrong("an expression")


def read_fold(parser: Parser) -> tuple[Node, tuple[Pattern, ...], Node, Node]:
    """Read `source as patterns (initial; update`: what `reduce` and `foreach` begin with."""
    source, patterns = read_source(parser)
    parser.expect("(")
    initial = parser.query()
    parser.expect(";")
    return source, patterns, initial, parser.query()


def read_source(parser: Parser) -> tuple[Node, tuple[Pattern, ...]]:
    """Read `source as patterns`."""
    source = parser.expression()
    parser.expect("as")
    return source, read_patterns(parser)


def read_condition(parser: Parser, start: int) -> Node:
    """Read the rest of an if."""
    tests: list[tuple[int, Node, Node]] = []
    while True:
        condition = parser.query()
        parser.expect("then")
        tests.append((start, condition, parser.query()))
        start = parser.token.start
        if not parser.take("elif"):
            break
    otherwise = parser.query() if parser.take("else") else None
    if not parser.is_("end"):
        raise parser.wrong("elif, else or end" if otherwise is None else "end")
    parser.next()
    for place, condition, then in reversed(tests):
        otherwise = If(place, condition, then, otherwise)
    if otherwise is None:
        raise parser.wrong("a condition")
    return otherwise


# --- objects ------------------------------------------------------------------------------


def read_object(parser: Parser) -> Node:
    """Read `{…}`."""
    start = parser.expect("{").start
    entries: list[tuple[Node, Node]] = []
    while not parser.take("}"):
        if entries:
            if not parser.is_(","):
                raise parser.wrong(", or }")
            parser.next()
            if parser.take("}"):
                break
        entries.append(read_entry(parser))
    if not entries:
        return Literal(start, {})
    return Object(start, tuple(entries))


def read_entry(parser: Parser) -> tuple[Node, Node]:
    """Read one key and its value."""
    token = parser.token
    match token.kind:
        case "name" | "keyword":
            parser.next()
            key: Node = Literal(token.start, token.value)
        case "string_start" | "format":
            key = read_string(parser)
        case "variable":
            parser.next()
            is_place = token.value == "__loc__"
            variable = read_place(parser, token) if is_place else Variable(token.start, token.value)
            if not is_place and parser.take(":"):
                return variable, read_value(parser)
            return Literal(token.start, token.value), variable
        case "operator" if token.value == "(":
            parser.next()
            key = parser.query()
            parser.expect(")")
            _check_key(key)
            parser.expect(":")
            return key, read_value(parser)
        case _:
            raise ExpressionError(
                f"expected an object's key, found {token.shown()}",
                parser.place_of(token),
                hint="A key that is computed stands in parentheses: {(…): …}.",
            )
    if parser.take(":"):
        return key, read_value(parser)
    if not parser.is_(",", "}"):
        raise parser.wrong(": or , or }")
    return key, Index(token.start, Identity(token.start), key)


def _check_key(key: Node) -> None:
    if isinstance(key, Literal) and not isinstance(key.value, str):
        raise ExpressionError("an object's key is a string, and this is not", key.at)


def read_value(parser: Parser) -> Node:
    """Read an object's value: no comma in it, and no `as` outside parentheses."""
    parser.deeper()
    start = parser.token.start
    stages = [parser.expression()]
    while parser.take("|"):
        stages.append(parser.expression())
    parser.depth -= 1
    return stages[0] if len(stages) == 1 else Pipe(start, tuple(stages))


# --- patterns -----------------------------------------------------------------------------


def read_patterns(parser: Parser) -> tuple[Pattern, ...]:
    """Read `pattern ?// …`."""
    found = [read_pattern(parser)]
    while parser.take("?//"):
        found.append(read_pattern(parser))
    return tuple(found)


def read_pattern(parser: Parser) -> Pattern:
    """Read one pattern."""
    parser.deeper()
    token = parser.token
    found: Pattern
    if token.kind == "variable":
        parser.next()
        found = PatternVariable(token.start, token.value)
    elif parser.take("["):
        items = [read_pattern(parser)]
        while parser.take(","):
            items.append(read_pattern(parser))
        parser.expect("]")
        found = PatternArray(token.start, tuple(items))
    elif parser.take("{"):
        entries = [read_pattern_entry(parser)]
        while parser.take(","):
            entries.append(read_pattern_entry(parser))
        parser.expect("}")
        found = PatternObject(token.start, tuple(entries))
    else:
        raise parser.wrong("$name, [ or {")
    parser.depth -= 1
    return found


def read_pattern_entry(parser: Parser) -> tuple[Node, str | None, Pattern | None]:
    """Read one entry of an object pattern."""
    token = parser.token
    match token.kind:
        case "variable":
            parser.next()
            inner = read_pattern(parser) if parser.take(":") else None
            return Literal(token.start, token.value), token.value, inner
        case "name" | "keyword":
            parser.next()
            key: Node = Literal(token.start, token.value)
        case "string_start" | "format":
            key = read_string(parser)
        case "operator" if token.value == "(":
            parser.next()
            key = parser.query()
            parser.expect(")")
            _check_key(key)
        case _:
            raise parser.wrong("$name or a key")
    parser.expect(":")
    return key, None, read_pattern(parser)


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
