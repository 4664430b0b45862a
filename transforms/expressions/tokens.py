r"""Splits jq programs and template expressions into tokens, with their places.

Both share one lexical shape: identifiers, fields (`.name`), numbers, strings with escapes and
interpolation, operators, comments. A string that interpolates (`\(…)`) is one token marked so: only
libjq looks inside, but its code is scanned for names that are refused.
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
    (?P<space>\s+|\#[^\n]*)
  | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
  | (?P<variable>\$(?:__prog_args|[A-Za-z_][A-Za-z0-9_:]*))
  | (?P<format>@[A-Za-z0-9_]+)
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)
  | (?P<op>\?//=?|//=|\|=|\+=|-=|\*=|/=|%=|==|!=|<=|>=|//|\.\.|[][(){}.,:;|=<>+\-*/%?!])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `value` is the name, number, text or operator itself."""

    kind: Kind
    value: str
    start: int
    end: int
    inner: tuple[Token, ...] = ()
    """The tokens of what an interpolated string interpolates."""


def tokenize(text: str, offset: int = 0) -> list[Token]:
    """Return the tokens of `text` and an end token; places count from `offset`.

    Raises ExpressionError for a character that begins no token, or a string without an end.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        if text[at] == '"':
            token = _string(text, at, offset)
            tokens.append(token)
            at = token.end - offset
            continue
        match = _PATTERN.match(text, at)
        if match is None:
            raise ExpressionError(f"unexpected character {text[at]!r}", offset + at)
        if match.lastgroup != "space":
            kind: Kind = match.lastgroup  # type: ignore[assignment]  # the groups are the kinds
            value = match[0][1:] if kind == "field" else match[0]
            tokens.append(Token(kind, value, offset + at, offset + match.end()))
        at = match.end()
    tokens.append(Token("end", "", offset + len(text), offset + len(text)))
    return tokens


def _string(text: str, start: int, offset: int) -> Token:
    """Read the string literal that begins at `start`."""
    at = start + 1
    inner: list[Token] = []
    while at < len(text):
        character = text[at]
        if character == '"':
            if inner:
                return Token("interpolated", "", offset + start, offset + at + 1, tuple(inner))
            return Token(
                "string", _unescape(text, start, at, offset), offset + start, offset + at + 1
            )
        if character == "\\" and text[at + 1 : at + 2] == "(":
            end = _closing(text, at + 2, offset)
            inner.extend(tokenize(text[at + 2 : end], offset + at + 2))
            at = end + 1
        else:
            at += 2 if character == "\\" else 1
    raise ExpressionError("a string has no end", offset + start, hint='Close it with ".')


def _closing(text: str, at: int, offset: int) -> int:
    """Return where the parenthesis opened before `at` closes."""
    depth, start = 1, at
    while at < len(text):
        character = text[at]
        if character == '"':
            at = _string(text, at, offset).end - offset
            continue
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return at
        at += 1
    raise ExpressionError("\\( has no closing parenthesis", offset + start)


def _unescape(text: str, start: int, end: int, offset: int) -> str:
    """Return the value of a string literal: JSON's escapes are jq's."""
    literal = text[start + 1 : end].replace("\n", "\\n").replace("\t", "\\t")
    try:
        return str(json.loads(f'"{literal}"', strict=False))
    except ValueError:
        raise ExpressionError("an escape in this string is not one", offset + start) from None


def without_comments(text: str) -> str:
    """Return the program with its comments blanked, every other character at its place."""
    kept = [" " if character != "\n" else "\n" for character in text]
    for token in tokenize(text):
        kept[token.start : token.end] = text[token.start : token.end]
    return "".join(kept)
