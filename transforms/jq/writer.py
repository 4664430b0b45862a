"""Lines of generated Python: buffers, names, functions of their own, and which line means which place.

Names of the generated code that vary are a small letter and a number (`v12`), numbers growing over
the whole program: so what a function uses of its surroundings is what its text names with a number
below the one that it began at, and becomes its parameters. No generated function has a closure.

A marker in front of an operation that can fail says where in the program that is; it becomes a line
break, and the line's number the key that an error's traceback finds the place by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

_MARK = re.compile("\x00([0-9]+)\x00")
_NAMES = re.compile(r'"(?:[^"\\]|\\.)*"|\b([a-z])([0-9]+)\b')
_CALLS = re.compile("\x01(f[0-9]+)\x01")
_KEPT = re.compile("\x02([0-9]+)")
_LONG = 80
_KEYWORDS = {None: "None", True: "True", False: "False"}


def mark(at: int, text: str) -> str:
    """Return an operation that may fail with the place that its error names."""
    return f"(\x00{at}\x00{text})"


def unmarked(text: str) -> str:
    """Return an expression without the places in it."""
    return _MARK.sub("", text)


def quoted(text: str) -> str:
    """Return a Python literal of plain ASCII in double quotes."""
    out = []
    for character in text:
        code = ord(character)
        if character in '"\\':
            out.append("\\" + character)
        elif 32 <= code < 127:
            out.append(character)
        elif code < 256:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(out)}"'


@dataclass(slots=True)
class Lifted:
    """A generated function beside the main one."""

    name: str
    start: int
    parameters: list[str]
    lines: list[tuple[int, str]] = field(default_factory=list)
    comment: str = ""


class Writer:
    """Collects the generated program."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.indent = 1
        self.blocks = 0
        """Loops and try statements around what is written: Python allows twenty in a function."""
        self.functions: list[Lifted] = []
        self.constants: dict[str, Any] = {}
        self._count = 0
        self._known: dict[tuple[str, str], str] = {}
        self.size = 0
        self.named: dict[str, str] = {}
        """Expressions that have a name here: what was evaluated before on every way to this line."""
        self.within = ""
        """The function that is written; "" for the main one."""
        self._kept: list[list[str]] = []

    # --- names --------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Return how many names there are, or outputs a program has."""
        return self._count

    def name(self, letter: str = "v") -> str:
        """Return a name that nothing else has."""
        self._count += 1
        return f"{letter}{self._count}"

    def constant(self, value: Any) -> str:
        """Return how generated code writes a constant."""
        if value is None or value is True or value is False:
            return _KEYWORDS[value]
        if type(value) is int and abs(value) < 1 << 63:
            return repr(value) if value >= 0 else f"({value!r})"
        if type(value) is float and value == value and abs(value) < 1e300:  # noqa: PLR0124 - NaN
            return repr(value) if str(value)[0] != "-" else f"({value!r})"
        if isinstance(value, str) and len(value) <= _LONG:
            return quoted(value)
        key = (type(value).__name__, repr(value))
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = f"K{len(self.constants)}"
            self.constants[name] = value
        return name

    # --- lines --------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Add a line at the present indentation."""
        self.size += len(text)
        self.lines.append((self.indent, text))

    @contextmanager
    def block(self, head: str, *, counts: bool = False) -> Iterator[None]:
        """Write `head` and indent what follows; `pass` where nothing does."""
        self.write(head)
        before = len(self.lines)
        self.indent += 1
        self.blocks += counts
        named, self.named = self.named, dict(self.named)
        yield
        self.named = named
        if len(self.lines) == before:
            self.write("pass")
        self.indent -= 1
        self.blocks -= counts

    @contextmanager
    def aside(self, deeper: int = 0) -> Iterator[list[tuple[int, str]]]:
        """Collect lines apart, indented by `deeper` levels more than here."""
        outer, self.lines = self.lines, []
        self.indent += deeper
        named = self.named
        if deeper:
            self.named = dict(named)
        try:
            yield self.lines
        finally:
            self.lines = outer
            self.indent -= deeper
            self.named = named

    def put(self, lines: list[tuple[int, str]]) -> None:
        """Add lines that were collected apart."""
        self.lines.extend(lines)

    def keep_place(self) -> list[str]:
        """Return a list for lines that what is written later may want here; they may name what is known here."""
        kept: list[str] = []
        self.lines.append((self.indent, f"\x02{len(self._kept)}"))
        self._kept.append(kept)
        return kept

    def fill_places(self) -> None:
        """Write the lines that were wanted in places kept for them. Once, after all else."""
        for one in self.functions:
            one.lines = self._filled(one.lines)
        self.lines = self._filled(self.lines)

    def _filled(self, lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for indent, text in lines:
            place = _KEPT.fullmatch(text)
            if place is None:
                found.append((indent, text))
            else:
                found.extend((indent, line) for line in self._kept[int(place[1])])
        return found

    @contextmanager
    def function(self, parameters: list[str], start: int, comment: str = "") -> Iterator[Lifted]:
        """Write a function of its own; names numbered above `start` are its own."""
        self._count += 1
        made = Lifted(f"f{self._count}", start, parameters, comment=comment)
        saved = self.lines, self.indent, self.blocks, self.named, self.within
        self.lines, self.indent, self.blocks, self.named = made.lines, 1, 0, {}
        self.within = made.name
        try:
            yield made
        finally:
            self.lines, self.indent, self.blocks, self.named, self.within = saved
        self.functions.append(made)

    @staticmethod
    def call(name: str, *arguments: str) -> str:
        """Return a call of a function made by `function`: what else it needs is added at the end."""
        return f"{name}({', '.join(arguments)}\x01{name}\x01)"

    # --- the whole ----------------------------------------------------------------------------

    def free_names(self) -> dict[str, list[str]]:
        """Return per function the names that it takes from its surroundings."""
        free: dict[str, set[str]] = {}
        called: dict[str, set[str]] = {}
        starts = {one.name: one.start for one in self.functions}
        for one in self.functions:
            text = "\n".join(line for _, line in one.lines)
            own = set(one.parameters)
            free[one.name] = {
                f"{letter}{number}"
                for letter, number in _NAMES.findall(text)
                if letter and letter != "f" and (letter == "r" or int(number) <= one.start)
            } - own
            called[one.name] = set(_CALLS.findall(text))
        changed = True
        while changed:
            changed = False
            for name, callees in called.items():
                more = {
                    n
                    for callee in callees
                    for n in free.get(callee, ())
                    if n[0] == "r" or int(n[1:]) <= starts[name]
                } - free[name]
                if more:
                    free[name] |= more
                    changed = True
        return {name: sorted(names, key=lambda n: int(n[1:])) for name, names in free.items()}

    def render(self, head: str, lines: list[tuple[int, str]]) -> tuple[str, dict[int, int]]:
        """Return the source of all functions, and per line the place that an error there names."""
        free = self.free_names()
        out: list[str] = []
        places: dict[int, int] = {}

        def add(indent: int, text: str) -> None:
            text = _CALLS.sub(lambda m: _more(text, m, free[m[1]]), text)
            parts = _MARK.split(text)
            out.append("    " * indent + parts[0].rstrip())
            for at, part in zip(parts[1::2], parts[2::2], strict=True):
                out.append("    " * (indent + 1) + part.rstrip())
                places[len(out)] = int(at)

        for one in self.functions:
            if one.comment:
                out.append(f"# {one.comment}")
            parameters = [*one.parameters, *free[one.name]]
            out.append(f"def {one.name}({', '.join(parameters)}):")
            for indent, text in _together(one.lines):
                add(indent, text)
            out.extend(["", ""])
        out.append(head)
        for indent, text in _together(lines):
            add(indent, text)
        return "\n".join([*out, ""]), places


_READ = re.compile(
    r'(\w+) = \((\w+)\.get\(("(?:[^"\\]|\\.)*")\) if type\(\2\) is dict else '
    r"(\(\x00[0-9]+\x00index\(\2, \3\)\))\)"
)
"""A line that reads a field: its name, the value read, the key, and what is done with no object."""


def _together(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield lines, with reads of one value's fields that follow each other under one question."""
    read = [(line, _read_of(line[1])) for line in lines]
    for (indent, value), group in groupby(read, lambda one: (one[0][0], one[1] and one[1][2])):
        together = list(group)
        found = [match for _, match in together if match]
        if value is None or len(found) == 1:
            yield from (line for line, _ in together)
            continue
        yield indent, f"if type({value}) is dict:"
        yield from ((indent + 1, f"{match[1]} = {value}.get({match[3]})") for match in found)
        yield indent, "else:"
        yield from ((indent + 1, f"{match[1]} = {match[4]}") for match in found)


def _read_of(text: str) -> re.Match[str] | None:
    """Return what a line reads; None for others, and for one that replaces what it reads."""
    match = _READ.fullmatch(text)
    return match if match and match[1] != match[2] else None


def _more(text: str, match: re.Match[str], names: list[str]) -> str:
    if not names:
        return ""
    first = text[: match.start()].endswith("(")
    return ("" if first else ", ") + ", ".join(names)
