"""Finds the placeholders of an SQL statement: `?`, or `$1`, `$2`, …. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)
  | (?P<dollar>(?<![\w$])\$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$)
  | (?P<line>--[^\n]*)
  | (?P<block>/\*.*?\*/)
  | (?P<number>(?<![\w$])\$\d+)
  | (?P<mark>\?)
  | (?P<end>;)
  | (?P<other>[^'"`$\-/?;eE]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in pieces: `parts` with the number (0, 1, …) of a parameter between two of them."""

    parts: tuple[str, ...]
    numbers: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many parameters it takes."""
        return max(self.numbers, default=-1) + 1

    def numbered(self) -> str:
        """Return it with `$1`, `$2`, …, as PostgreSQL has them."""
        return self._joined([f"${number + 1}" for number in self.numbers])

    def marked(self) -> str:
        """Return it with a `?` for each of `numbers`, as SQLite has them."""
        return self._joined(["?"] * len(self.numbers))

    def _joined(self, marks: list[str]) -> str:
        pairs = zip(self.parts, [*marks, ""], strict=True)
        return "".join(part + mark for part, mark in pairs)


def parse_statement(text: str) -> Statement:
    """Return the statement. Raises ValueError with what is expected.

    With a `$1` anywhere, a `?` is an operator of PostgreSQL's and no placeholder.
    """
    tokens = [(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(text.strip())]
    tokens = [("dollar" if kind == "tag" else kind, token) for kind, token in tokens]
    while tokens and (tokens[-1][0] in {"end", "line"} or tokens[-1][1].isspace()):
        tokens.pop()
    if any(kind == "end" for kind, _ in tokens):
        raise ValueError("one statement; this has a ; in the middle")
    if all(kind in {"line", "block"} or token.isspace() for kind, token in tokens):
        raise ValueError("a statement")
    by_number = any(kind == "number" for kind, _ in tokens)
    parts, numbers = [""], []
    for kind, token in tokens:
        if kind == "number":
            numbers.append(int(token[1:]) - 1)
            parts.append("")
        elif kind == "mark" and not by_number:
            numbers.append(len(numbers))
            parts.append("")
        else:
            parts[-1] += token
    missing = set(range(max(numbers, default=-1) + 1)) - set(numbers)
    if missing or -1 in numbers:
        raise ValueError("placeholders $1, $2, … without a gap")
    return Statement(tuple(parts), tuple(numbers))
