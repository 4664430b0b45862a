r"""The text of a jq program as tokens, each with its place.

A string is several tokens, so that its interpolations are tokens like any others and nesting costs
no recursion:

    "a\(.b)c"   →   string_start, text "a", interpolation, field "b", interpolation_end, text "c", string_end
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from transforms.jq.invalid import ExpressionError

KEYWORDS = frozenset(
    {
        "and", "as", "break", "catch", "def", "elif", "else", "end", "foreach", "if", "import",
        "include", "label", "module", "or", "reduce", "then", "try",
    }
)  # fmt: skip

_OUTSIDE = re.compile(
    r"""
    (?P<space>[ \r\n\t]+|\#(?:\\(?:\\|\r?\n)|[^\n])*)
  | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<field>\.[a-zA-Z_][a-zA-Z_0-9]*)
  | (?P<variable>\$(?:[a-zA-Z_][a-zA-Z_0-9]*::)*[a-zA-Z_][a-zA-Z_0-9]*)
  | (?P<name>(?:[a-zA-Z_][a-zA-Z_0-9]*::)*[a-zA-Z_][a-zA-Z_0-9]*)
  | (?P<format>@[a-zA-Z0-9_]+)
  | (?P<string_start>")
  | (?P<operator>\?//|//=|//|\.\.|\|=|\+=|-=|\*=|/=|%=|==|!=|<=|>=|[.?=;,:|+\-*/%<>()\[\]{}$])
    """,
    re.VERBOSE,
)
_TEXT = re.compile(r'[^"\\]+')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind`, what it says, and where it starts and ends in the program."""

    kind: str
    """number, field, variable, name, keyword, format, operator, end, or a part of a string."""
    value: Any
    start: int
    end: int

    def shown(self) -> str:
        """Return how a message names it."""
        match self.kind:
            case "end":
                return "the end of the program"
            case "string_start" | "string_end" | "text":
                return "a string"
            case "interpolation" | "interpolation_end":
                return "an interpolation"
            case "field":
                return f".{self.value}"
            case "variable":
                return f"${self.value}"
            case "format":
                return f"@{self.value}"
        return str(self.value)


def tokenize(text: str) -> list[Token]:
    """Return the tokens, the last of kind `end`. Raises ExpressionError at what is none."""
    return _Lexer(text).run()


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.open: list[tuple[str, int]] = []
        """What is to be closed by what, innermost last: `)`, `]`, `}`, `\\)` or `"`, and where it began."""

    def run(self) -> list[Token]:
        at, text = 0, self.text
        while at < len(text):
            inside = self.open and self.open[-1][0] == '"'
            at = self._string_part(at) if inside else self._outside(at)
        if self.open:
            closing, start = self.open[-1]
            if closing == '"':
                raise ExpressionError("the string that begins here has no closing quote", start)
            raise ExpressionError(
                f"expected {closing.removeprefix(chr(92))}, found the end of the program", start
            )
        self._add("end", "", len(text), len(text))
        return self.tokens

    def _add(self, kind: str, value: Any, start: int, end: int) -> None:
        self.tokens.append(Token(kind, value, start, end))

    def _outside(self, at: int) -> int:
        match = _OUTSIDE.match(self.text, at)
        if match is None:
            raise ExpressionError(f"unexpected character {self.text[at]!r}", at)
        kind, value, end = str(match.lastgroup), match[0], match.end()
        match kind:
            case "space":
                pass
            case "field" | "variable" | "format":
                self._add(kind, value[1:], at, end)
            case "name" if value in KEYWORDS:
                self._add("keyword", value, at, end)
            case "string_start":
                self.open.append(('"', at))
                self._add(kind, value, at, end)
            case "operator":
                return self._operator(value, at, end)
            case _:
                self._add(kind, value, at, end)
        return end

    def _operator(self, value: str, at: int, end: int) -> int:
        if value in _CLOSING:
            self.open.append((_CLOSING[value], at))
        elif value in {")", "]", "}"}:
            expected = self.open.pop()[0] if self.open else ""
            if expected == "\\)" and value == ")":
                self._add("interpolation_end", value, at, end)
                return end
            if expected != value:
                if not expected:
                    raise ExpressionError(f"unexpected {value}: nothing is open here", at)
                raise ExpressionError(
                    f"expected {expected.removeprefix(chr(92))}, found {value}", at
                )
        self._add("operator", value, at, end)
        return end

    def _string_part(self, at: int) -> int:
        text = self.text
        if text[at] == '"':
            self.open.pop()
            self._add("string_end", '"', at, at + 1)
            return at + 1
        if text.startswith("\\(", at):
            self.open.append(("\\)", at))
            self._add("interpolation", "\\(", at, at + 2)
            return at + 2
        start, parts = at, []
        while at < len(text) and text[at] != '"' and not text.startswith("\\(", at):
            match = _TEXT.match(text, at)
            if match is not None:
                parts.append(match[0])
                at = match.end()
            else:
                part, at = self._escape(at)
                parts.append(part)
        self._add("text", "".join(parts), start, at)
        return at

    def _escape(self, at: int) -> tuple[str, int]:
        text = self.text
        simple = _ESCAPES.get(text[at + 1 : at + 2])
        if simple is not None:
            return simple, at + 2
        match = _UNICODE.match(text, at)
        if match is None:
            shown = text[at : at + 2]
            raise ExpressionError(
                f"invalid escape {shown} in a string",
                at,
                hint=r"Escapes are \" \\ \/ \b \f \n \r \t \uXXXX and \(…).",
            )
        code, end = int(match[1], 16), match.end()
        if 0xD800 <= code < 0xDC00:
            second = _UNICODE.match(text, end)
            low = int(second[1], 16) if second else 0
            if second and 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), second.end()
            raise ExpressionError(
                f"{match[0]} is half a surrogate pair, and the other half does not follow", at
            )
        # The second half alone is no character: jq puts the replacement character there.
        return ("\ufffd" if 0xDC00 <= code < 0xE000 else chr(code)), end
