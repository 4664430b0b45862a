r"""Splits jq programs and template expressions into tokens, with their places.

Both share one lexical shape: identifiers, fields (`.name`), numbers, strings with escapes and
interpolation, operators, comments. A string that interpolates (`\(…)`) is one token marked so; what
it interpolates is split as well, since that is code like any other.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from transforms.expressions.errors import ExpressionError

Kind = Literal[
    "field", "name", "variable", "format", "number", "string", "interpolated", "op", "end"
]

_PATTERN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<comment>\#[^\n]*)
  | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
  | (?P<variable>\$(?:[A-Za-z_][A-Za-z0-9_]*::)*[A-Za-z_][A-Za-z0-9_]*)
  | (?P<format>@[A-Za-z0-9_]+)
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<op>\?//=?|//=|\|=|\+=|-=|\*=|/=|%=|==|!=|<=|>=|//|\.\.|[][(){}.,:;|=<>+\-*/%?!])
    """,
    re.VERBOSE | re.ASCII,
)
_DEEPEST = 50
"""Strings within strings."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `value` is the name, number, text or operator itself."""

    kind: Kind
    value: str
    start: int
    end: int
    inner: tuple[Token, ...] = ()
    """The tokens of what an interpolated string interpolates, an end token behind each."""


def tokenize(text: str, offset: int = 0) -> list[Token]:
    """Return the tokens of `text` and an end token; places count from `offset`.

    Raises ExpressionError for a character that begins no token, or a string without an end.
    """
    return _Scanner(text, offset).scan(0, depth=0)[0]


class _Scanner:
    """One text on its way into tokens; it remembers where comments stand."""

    def __init__(self, text: str, offset: int = 0) -> None:
        self._text = text
        self._offset = offset
        self.comments: list[tuple[int, int]] = []

    def scan(self, at: int, *, depth: int) -> tuple[list[Token], int]:
        """Return the tokens from `at` on and where they end: in a string, at its `)`."""
        text, offset, begin, parentheses = self._text, self._offset, at, 0
        if depth > _DEEPEST:
            raise ExpressionError("strings are nested too deeply", offset + at)
        tokens: list[Token] = []
        while at < len(text):
            if text[at] == '"':
                token = self._string(at, depth)
                tokens.append(token)
                at = token.end - offset
                continue
            match = _PATTERN.match(text, at)
            if match is None:
                raise ExpressionError(f"unexpected character {text[at]!r}", offset + at)
            found, value = match.lastgroup, match[0]
            if found == "op" and depth:
                parentheses += (value == "(") - (value == ")")
                if parentheses < 0:
                    break
            if found == "comment":
                self.comments.append(match.span())
            elif found != "space":
                kind: Kind = found  # type: ignore[assignment]  # the groups are the kinds
                value = value[1:] if kind == "field" else value
                tokens.append(Token(kind, value, offset + at, offset + match.end()))
            at = match.end()
        else:
            if depth:
                raise ExpressionError("\\( has no closing parenthesis", offset + begin)
        tokens.append(Token("end", "", offset + at, offset + at))
        return tokens, at

    def _string(self, start: int, depth: int) -> Token:
        """Read the string literal that begins at `start`."""
        text, offset, at = self._text, self._offset, start + 1
        inner: list[Token] = []
        while at < len(text):
            character = text[at]
            if character == '"':
                place = (offset + start, offset + at + 1)
                if inner:
                    return Token("interpolated", "", *place, tuple(inner))
                return Token("string", _unescape(text, start, at, offset), *place)
            if character == "\\" and text[at + 1 : at + 2] == "(":
                tokens, at = self.scan(at + 2, depth=depth + 1)
                inner.extend(tokens)
                at += 1
            else:
                at += 2 if character == "\\" else 1
        raise ExpressionError("a string has no end", offset + start, hint='Close it with ".')


def _unescape(text: str, start: int, end: int, offset: int) -> str:
    """Return the value of a string literal: JSON's escapes are jq's."""
    try:
        value = str(json.loads(text[start : end + 1], strict=False))
        value.encode()
        return value
    except ValueError:  # UnicodeEncodeError is one: half of a surrogate pair
        raise ExpressionError("an escape in this string is not one", offset + start) from None


def without_comments(text: str) -> str:
    """Return the program with its comments blanked, every other character at its place."""
    scanner = _Scanner(text)
    scanner.scan(0, depth=0)
    for start, end in scanner.comments:
        text = text[:start] + " " * (end - start) + text[end:]
    return text
