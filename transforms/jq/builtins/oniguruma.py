r"""Oniguruma's Perl_NG syntax, which jq's regular expressions are in, as a pattern of the `regex` package.

Groups become plain numbered ones, and their names are kept beside the pattern: here as there, named and
unnamed groups capture alike, and one name may belong to several. Not in it, and refused by name: callouts,
absent expressions and stoppers `(?~|`, and the text segment boundaries `\y` and `\Y`. More liberal than
the original: the alternatives of a look-behind may differ in length.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from transforms.jq.builtins.characters import TYPES, Scanner, failure, literal
from transforms.jq.errors import JqError

_LARGEST_REPEAT = 100_000
_RUN = 100
_SEAM = "(?<=(?s:.))"
"""Stands between so many elements: it holds behind anything that is not empty. The engine prepares the search for a text with
work that grows with the cube of its length, and looks at no clock meanwhile (4,000 times `a`: 20 s)."""
_END = "(?=\\n?\\Z)"
_LINE_START = "(?:\\A|(?<=\\n)(?!\\Z))"
_LINE_END = "(?=\\n|\\Z)"
_ANCHORS = {"b": "\\b", "B": "\\B", "A": "\\A", "Z": _END, "z": "\\Z", "G": "\\G", "K": "\\K"}
_ATOMS = {
    "R": "(?>\\r\\n|[\\n\\x0b\\f\\r\\x85\\u2028\\u2029])",
    "X": "\\X",
    "N": "[^\\n]",
    "O": "(?s:.)",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A translated pattern: its text, how many groups it has, and which of them have names."""

    text: str
    groups: int
    names: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Options:
    """What `(?imsx)` switches. Case is left to the engine, and only passed on."""

    extended: bool = False
    dot_all: bool = False
    lines: bool = False


def translate(
    source: str, *, extended: bool = False, dot_all: bool = False, shift: int = 0
) -> Pattern:
    """Return the pattern that matches as Oniguruma would. Raises JqError in Oniguruma's words.

    With a `shift`, its references leave room for as many groups in front of it.
    """
    try:
        return _Translator(source, shift).whole(_Options(extended=extended, dot_all=dot_all))
    except RecursionError:
        raise failure("parse depth limit over") from None


@dataclass(slots=True)
class _Open:
    """A group whose end is not reached, and whether anything must have been consumed in it so far."""

    number: int | None
    consumed: bool = False
    always: bool = True
    """Whether all its alternatives before this one consume."""


class _Translator(Scanner):
    def __init__(self, source: str, shift: int) -> None:
        super().__init__(source)
        self.shift = shift
        self.run = 0
        """Elements since the last seam."""
        self.groups = 0
        self.names: dict[str, list[int]] = {}
        self.open: list[_Open] = [_Open(0)]
        self.consuming: set[int] = set()
        """Closed groups that match no empty text."""
        self.calls: set[tuple[int, str, int]] = set()
        """Calls of a group that come first in one: (in group, to, with so many groups before it)."""
        self.later: list[Callable[[], str]] = []
        """References, which may be to groups further on: filled in when all are known."""

    # -- alternatives, sequences, repetition -----------------------------------------------------------

    def whole(self, options: _Options) -> Pattern:
        text = self.alternatives(options)
        if self.at < len(self.source):
            raise failure("unmatched close parenthesis")
        self.check_recursion()
        parts = text.split("\0")
        # Each NUL stands for a reference; a NUL of the pattern is written \x00.
        resolved = [parts[0]]
        for part in parts[1:]:
            number, _, rest = part.partition("\1")
            resolved += [self.later[int(number)](), rest]
        return Pattern("".join(resolved), self.groups, self.names)

    def refer(self, resolve: Callable[[], str]) -> str:
        self.later.append(resolve)
        return f"\0{len(self.later) - 1}\1"

    def alternatives(self, options: _Options) -> str:
        out: list[str] = []
        while True:
            if self.at >= len(self.source) or self.peek() == ")":
                return "".join(out)
            if self.take("|"):
                out.append("|")
                self.open[-1].always &= self.open[-1].consumed
                self.open[-1].consumed = False
                continue
            isolated = self.isolated(options)
            if isolated is not None:
                options, text = isolated
                out.append(text)
                continue
            out.append(self.repeated(options))
            self.run += 1
            if self.run >= _RUN and self.open[-1].consumed:
                self.run = 0
                out.append(_SEAM)

    def isolated(self, options: _Options) -> tuple[_Options, str] | None:
        """Take `(?i)`, which holds to the end of its group."""
        begin = self.at
        if self.take("(?"):
            letters = self.digits("imsx-", len(self.source))
            if letters and self.take(")"):
                changed, case = _switched(options, letters)
                return changed, f"(?{case})" if case else ""
        self.at = begin
        return None

    def repeated(self, options: _Options) -> str:
        if options.extended and self.peek() in string.whitespace:
            self.at += 1
            return ""
        if options.extended and self.peek() == "#":
            end = self.source.find("\n", self.at)
            self.at = len(self.source) if end < 0 else end + 1
            return ""
        if self.peek() in "*+?" or (self.peek() == "{" and self.interval() is not None):
            raise failure("target of repeat operator is not specified")
        before = self.open[-1].consumed
        atom, repeatable = self.atom(options)
        first = True
        while True:
            if options.extended:
                while self.peek() and self.peek() in string.whitespace:
                    self.at += 1
            quantifier = self.quantifier()
            if quantifier is None:
                return atom
            if not repeatable:
                raise failure("target of repeat operator is invalid")
            if quantifier[0] in "*?" or quantifier.startswith(("{0,", "{0}")):
                self.open[-1].consumed = before
            atom = f"{atom}{quantifier}" if first else f"(?:{atom}){quantifier}"
            first = False

    def quantifier(self) -> str | None:
        if self.peek() and self.peek() in "*+?":
            text = self.next()
        else:
            found = self.interval() if self.peek() == "{" else None
            if found is None:
                return None
            text = found
        if self.peek() and self.peek() in "?+":
            text += self.next()
        return text

    def interval(self) -> str | None:
        """Take `{n}`, `{n,}` or `{n,m}`; what is none is text."""
        begin = self.at
        self.at += 1
        low = self.digits(string.digits, len(self.source))
        comma = self.take(",")
        high = self.digits(string.digits, len(self.source)) if comma else low
        if not low or not self.take("}"):
            self.at = begin
            return None
        if int(low or 0) > _LARGEST_REPEAT or int(high or 0) > _LARGEST_REPEAT:
            raise failure("too big number for repeat range")
        if high and int(high) < int(low):
            raise failure("upper is smaller than lower in repeat range")
        return f"{{{low}}}" if not comma else f"{{{low},{high}}}"

    # -- atoms ---------------------------------------------------------------------------------------

    def atom(self, options: _Options) -> tuple[str, bool]:
        """Take one element; return its text and whether it may be repeated."""
        char = self.next()
        if char == "\\":
            return self.escape()
        if char == "[":
            self.open[-1].consumed = True
            return self.character_class(), True
        if char == "(":
            return self.group(options)
        if char == ".":
            self.open[-1].consumed = True
            return ("(?s:.)" if options.dot_all else "."), True
        if char == "^":
            return (_LINE_START if options.lines else "\\A"), False
        if char == "$":
            return (_LINE_END if options.lines else _END), False
        self.open[-1].consumed = True
        return literal(char), True

    def group(self, options: _Options) -> tuple[str, bool]:
        if self.take("*"):
            name = self.until(")", "invalid callout pattern")
            if name != "FAIL":
                raise failure(f"the callout (*{name}) is not supported")
            return "(?!)", True
        if not self.take("?"):
            self.groups += 1
            return self.closed("(", options, self.groups), True
        if self.at >= len(self.source):
            raise failure("end pattern in group")
        if self.take("#"):
            self.until(")", "end pattern in group")
            return "(?:)", False
        for opening in (":", ">", "=", "!", "<=", "<!"):
            if self.take(opening):
                return self.closed(f"(?{opening}", options), opening in {":", ">"}
        if self.peek() in "<'":
            name = self.name(">" if self.next() == "<" else "'")
            self.groups += 1
            self.names.setdefault(name, []).append(self.groups)
            return self.closed("(", options, self.groups), True
        if self.take("("):
            return self.conditional(options), True
        if self.take("&"):
            return self.call(self.until(")", "end pattern in group")), True
        if self.take("R)"):
            return self.call("0"), True
        if self.take("~"):
            if self.peek() == "|":
                raise failure("(?~| is not supported")
            absent = self.closed("(?!", options)
            return f"(?:{absent}(?s:.))*", False
        if self.peek() == "{":
            raise failure("the callout (?{ is not supported")
        return self.switching(options)

    def switching(self, options: _Options) -> tuple[str, bool]:
        if self.peek().isdigit() or (self.peek() in "+-" and self.peek(1).isdigit()):
            return self.call(self.until(")", "end pattern in group")), True
        letters = self.digits("imsx-", len(self.source))
        if not self.take(":"):
            ended = self.at >= len(self.source)
            raise failure("end pattern in group" if ended else "undefined group option")
        changed, case = _switched(options, letters)
        return self.closed(f"(?{case}:", changed), True

    def closed(self, opening: str, options: _Options, number: int | None = None) -> str:
        self.open.append(_Open(number))
        text = self.alternatives(options)
        if not self.take(")"):
            raise failure("end pattern with unmatched parenthesis")
        group = self.open.pop()
        if group.consumed and group.always:
            if opening in {"(", "(?>"} or opening[-1] == ":":
                self.open[-1].consumed = True
            if number is not None:
                self.consuming.add(number)
        return f"{opening}{text})"

    def check_recursion(self) -> None:
        """Refuse a group that calls itself before it consumed anything: it would never end."""
        edges: dict[int, set[int]] = {}
        for inside, reference, here in self.calls:
            with suppress(JqError):  # an unknown group, which is reported with its reference
                called = [0] if reference == "0" else self.numbers(reference, here)
                edges.setdefault(inside, set()).update(called)
        for start in edges:
            reached, work = set[int](), [start]
            while work:
                fresh = edges.get(work.pop(), set()) - reached
                if start in fresh:
                    raise failure("never ending recursion")
                reached |= fresh
                work.extend(fresh)

    def conditional(self, options: _Options) -> str:
        condition = self.until(")", "end pattern in group").strip("<>'")
        numbers = self.refer(lambda: str(self.numbers(condition)[0] + self.shift))
        return self.closed(f"(?({numbers})", options)

    def name(self, end: str) -> str:
        name = self.until(end, f"invalid group name <{self.source[self.at :]}>")
        if not name:
            raise failure("group name is empty")
        if name[0].isdigit():
            raise failure(f"invalid group name <{name}>")
        if not (name[0].isalnum() or name[0] == "_") or ")" in name:
            raise failure(f"invalid char in group name <{name}>")
        return name

    # -- references --------------------------------------------------------------------------------------

    def numbers(self, reference: str, here: int | None = None) -> list[int]:
        """Return the groups that a name or number means."""
        digits = reference.lstrip("+-")
        if digits.isdigit() and digits.isascii():
            number = int(digits)
            if reference[0] == "-":
                number = (self.groups if here is None else here) + 1 - number
            elif reference[0] == "+":
                number += self.groups if here is None else here
            if not 0 < number <= self.groups:
                raise failure("invalid backref number/name")
            return [number]
        if reference not in self.names:
            raise failure(f"undefined name <{reference}> reference")
        return self.names[reference]

    def backreference(self, reference: str) -> str:
        here = self.groups

        def resolve() -> str:
            # Of groups that share a name, the last that took part is meant.
            numbers = self.numbers(reference, here)
            choices = [f"(?:\\{number + self.shift})" for number in reversed(numbers)]
            return f"(?:{'|'.join(choices)})"

        return self.refer(resolve)

    def call(self, reference: str) -> str:
        here = self.groups
        for group in reversed(self.open):
            if group.consumed:
                break
            if group.number is not None:
                self.calls.add((group.number, reference, here))

        def resolve() -> str:
            if reference == "0":
                return "(?R)"
            try:
                numbers = self.numbers(reference, here)
            except JqError:
                if reference.lstrip("+-").isdigit():
                    raise failure(f"undefined group <{reference}> reference") from None
                raise
            if len(numbers) > 1:
                raise failure(f"multiplex definition name <{reference}> call")
            return f"(?{numbers[0] + self.shift})"

        return self.refer(resolve)

    # -- escapes -------------------------------------------------------------------------------------------

    def escape(self) -> tuple[str, bool]:
        if self.at >= len(self.source):
            raise failure("end pattern at escape")
        char = self.next()
        if char in _ANCHORS:
            return _ANCHORS[char], False
        self.open[-1].consumed |= char not in "kgyY123456789"
        if char in TYPES:
            return f"\\{char}", True
        if char in _ATOMS:
            return _ATOMS[char], True
        if char in "pP":
            found = self.property(char)
            return (literal(char) if found is None else found), True
        if char in "kg" and self.peek() and self.peek() in "<'":
            end = ">" if self.next() == "<" else "'"
            reference = self.until(end, "invalid group name <>")
            if not reference:
                raise failure("group name is empty")
            return (self.backreference if char == "k" else self.call)(reference), True
        if char == "Q":
            stop = self.source.find("\\E", self.at)
            quoted = self.source[self.at :] if stop < 0 else self.source[self.at : stop]
            self.at = len(self.source) if stop < 0 else stop + 2
            runs = [quoted[at : at + _RUN] for at in range(0, len(quoted), _RUN)]
            return f"(?:{_SEAM.join(''.join(map(literal, run)) for run in runs)})", True
        if char in "yY":
            raise failure(f"\\{char} is not supported")
        if char in "123456789":
            rest = self.digits(string.digits, 9)
            if len(rest) == 0 or int(char + rest) <= self.groups:
                return self.backreference(char + rest), True
            self.at -= len(rest)
        return literal(self.code(char)), True


def _switched(options: _Options, letters: str) -> tuple[_Options, str]:
    """Return the options after `imsx-imsx`, and what of it is for the engine: the case."""
    case, on = "", True
    for letter in letters:
        if letter == "-":
            if not on:
                raise failure("undefined group option")
            on = False
        elif letter == "i":
            case = "i" if on else "-i"
        elif letter == "x":
            options = replace(options, extended=on)
        elif letter == "s":
            options = replace(options, dot_all=on)
        else:
            options = replace(options, lines=on)
    return options, case
