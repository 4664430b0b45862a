r"""Oniguruma's Perl_NG syntax, which jq's regular expressions are in, as a pattern of the `regex` package.

Groups become plain numbered ones, and their names are kept beside the pattern: here as there, named and
unnamed groups capture alike, and one name may belong to several. Not in it, and refused by name: callouts,
absent expressions and stoppers `(?~|`, and the text segment boundaries `\y` and `\Y`. More liberal than
the original: the alternatives of a look-behind may differ in length.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from transforms.jq.errors import JqError

_LARGEST_REPEAT = 100_000
_LARGEST_CODE = 0x10FFFF
_END = "(?=\\n?\\Z)"
_LINE_START = "(?:\\A|(?<=\\n)(?!\\Z))"
_LINE_END = "(?=\\n|\\Z)"
_CONTROLS = {"t": 0x09, "n": 0x0A, "r": 0x0D, "f": 0x0C, "a": 0x07, "e": 0x1B}
_TYPES = frozenset("dDwWsS")
_ANCHORS = {"b": "\\b", "B": "\\B", "A": "\\A", "Z": _END, "z": "\\Z", "G": "\\G", "K": "\\K"}
_ATOMS = {
    "R": "(?>\\r\\n|[\\n\\x0b\\f\\r\\x85\\u2028\\u2029])",
    "X": "\\X",
    "N": "[^\\n]",
    "O": "(?s:.)",
}
_POSIX = {
    "alnum": "\\p{Alphabetic}\\p{Nd}",
    "alpha": "\\p{Alphabetic}",
    "ascii": "\\x00-\\x7f",
    "blank": "\\p{Zs}\\t",
    "cntrl": "\\p{Cc}",
    "digit": "\\d",
    "graph": "\\p{Graph}",
    "lower": "\\p{Lowercase}",
    "print": "\\p{Graph}\\p{Zs}",
    "punct": "\\p{P}\\p{S}",
    "space": "\\p{White_Space}",
    "upper": "\\p{Uppercase}",
    "xdigit": "0-9A-Fa-f",
    "word": "\\w",
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


def failure(message: str) -> JqError:
    """Return the error of a pattern that does not compile, or of a search that was given up."""
    return JqError(f"Regex failure: {message}")


class _Translator:
    def __init__(self, source: str, shift: int) -> None:
        self.source = source
        self.shift = shift
        self.at = 0
        self.groups = 0
        self.names: dict[str, list[int]] = {}
        self.later: list[Callable[[], str]] = []
        """References, which may be to groups further on: filled in when all are known."""

    # -- reading -----------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.source[place] if place < len(self.source) else ""

    def take(self, text: str) -> bool:
        if self.source.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        char = self.source[self.at]
        self.at += 1
        return char

    def until(self, end: str, otherwise: str) -> str:
        stop = self.source.find(end, self.at)
        if stop < 0:
            raise failure(otherwise)
        text = self.source[self.at : stop]
        self.at = stop + len(end)
        return text

    def digits(self, allowed: str, most: int) -> str:
        begin = self.at
        while self.at - begin < most and self.peek() and self.peek() in allowed:
            self.at += 1
        return self.source[begin : self.at]

    # -- alternatives, sequences, repetition -----------------------------------------------------------

    def whole(self, options: _Options) -> Pattern:
        text = self.alternatives(options)
        if self.at < len(self.source):
            raise failure("unmatched close parenthesis")
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
                continue
            isolated = self.isolated(options)
            if isolated is not None:
                options, text = isolated
                out.append(text)
                continue
            out.append(self.repeated(options))

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
            return self.character_class(), True
        if char == "(":
            return self.group(options)
        if char == ".":
            return ("(?s:.)" if options.dot_all else "."), True
        if char == "^":
            return (_LINE_START if options.lines else "\\A"), False
        if char == "$":
            return (_LINE_END if options.lines else _END), False
        return literal(char), True

    def group(self, options: _Options) -> tuple[str, bool]:
        if self.take("*"):
            name = self.until(")", "end pattern with unmatched parenthesis")
            if name != "FAIL":
                raise failure(f"the callout (*{name}) is not supported")
            return "(?!)", True
        if not self.take("?"):
            self.groups += 1
            return self.closed("(", options), True
        if self.at >= len(self.source):
            raise failure("end pattern in group")
        if self.take("#"):
            self.until(")", "end pattern in group")
            return "(?:)", False
        for opening in (":", ">", "=", "!", "<=", "<!"):
            if self.take(opening):
                return self.closed(f"(?{opening}", options), opening in {":", ">", "=", "!"}
        if self.peek() in "<'":
            name = self.name("<", ">") if self.take("<") else self.name("'", "'")
            self.groups += 1
            self.names.setdefault(name, []).append(self.groups)
            return self.closed("(", options), True
        if self.take("("):
            return self.conditional(options), True
        if self.take("&"):
            return self.call(self.until(")", "end pattern in group")), True
        if self.take("R)"):
            return "(?R)", True
        if self.take("~"):
            if self.peek() == "|":
                raise failure("(?~| is not supported")
            absent = self.closed("(?!", options)
            return f"(?:{absent}(?s:.))*", False
        if self.peek() == "{":
            raise failure("the callout (?{ is not supported")
        return self.switching(options)

    def switching(self, options: _Options) -> tuple[str, bool]:
        begin = self.at
        if self.peek().isdigit() or (self.peek() in "+-" and self.peek(1).isdigit()):
            return self.call(self.until(")", "end pattern in group")), True
        letters = self.digits("imsx-", len(self.source))
        if not self.take(":"):
            self.at = begin
            raise failure("undefined group option")
        changed, case = _switched(options, letters)
        return self.closed(f"(?{case}:", changed), True

    def closed(self, opening: str, options: _Options) -> str:
        text = self.alternatives(options)
        if not self.take(")"):
            raise failure("end pattern with unmatched parenthesis")
        return f"{opening}{text})"

    def conditional(self, options: _Options) -> str:
        condition = self.until(")", "end pattern in group").strip("<>'")
        numbers = self.refer(lambda: str(self.numbers(condition)[0] + self.shift))
        return self.closed(f"(?({numbers})", options)

    def name(self, _: str, end: str) -> str:
        name = self.until(end, "end pattern in group")
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
        if char in _TYPES:
            return f"\\{char}", True
        if char in _ANCHORS:
            return _ANCHORS[char], False
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
            return f"(?:{''.join(map(literal, quoted))})", True
        if char in "yY":
            raise failure(f"\\{char} is not supported")
        if char in "123456789":
            rest = self.digits(string.digits, 9)
            if len(rest) == 0 or int(char + rest) <= self.groups:
                return self.backreference(char + rest), True
            self.at -= len(rest)
        return literal(self.code(char)), True

    def property(self, letter: str) -> str | None:
        r"""Take what follows `\p`: `{Name}`, `{^Name}`, or one letter."""
        if self.take("{"):
            name = self.until("}", "invalid character property name {}")
        elif self.peek() and self.peek() in "CLMNPSZ":
            name = self.next()
        else:
            return None
        negated = (letter == "P") is not name.startswith("^")
        shown = name.removeprefix("^")
        if not shown or not all(char.isalnum() or char in "_ -" for char in shown):
            raise failure(f"invalid character property name {{{name}}}")
        posix = "\\p{P}" if shown.lower() == "punct" else _POSIX.get(shown.lower())
        if posix is not None:
            return f"[{'^' if negated else ''}{posix}]"
        return f"\\{'P' if negated else 'p'}{{{shown}}}"

    def code(self, char: str) -> str:
        r"""Return the character that `\` and `char` begin to name."""
        if char in _CONTROLS:
            return chr(_CONTROLS[char])
        if char == "x":
            if self.peek() == "{":
                return self.braced(string.hexdigits, 16)
            return self.byte(self.digits(string.hexdigits, 2), 16)
        if char == "o" and self.peek() == "{":
            return self.braced(string.octdigits, 8)
        if char in string.octdigits:
            return self.byte(char + self.digits(string.octdigits, 2), 8)
        if char == "c":
            if self.at >= len(self.source):
                raise failure("end pattern at control")
            following = self.next()
            return chr(0x7F if following == "?" else ord(following) & 0x9F)
        return char

    def braced(self, allowed: str, base: int) -> str:
        begin = self.at
        self.at += 1
        digits = self.digits(allowed, 11)
        if not digits or not self.take("}"):
            self.at = begin
            raise failure("invalid code point value")
        number = int(digits, base)
        if number > _LARGEST_CODE or 0xD800 <= number <= 0xDFFF:
            raise failure("invalid code point value")
        return chr(number)

    def byte(self, digits: str, base: int) -> str:
        """Return the character of bytes written one by one: those above 0x7f are a sequence of UTF-8."""
        number = int(digits or "0", base)
        if number > 0xFF:
            raise failure("too big number")
        if number < 0x80:
            return chr(number)
        raw = bytearray([number])
        while len(raw) < 4 and self.peek() == "\\" and self.peek(1) == "x":
            begin = self.at
            self.at += 2
            more = self.digits(string.hexdigits, 2)
            if not more or int(more, 16) & 0xC0 != 0x80:
                self.at = begin
                break
            raw.append(int(more, 16))
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise failure("too short multibyte code string") from None
        if len(text) != 1:
            raise failure("too short multibyte code string")
        return text

    # -- classes ----------------------------------------------------------------------------------------------

    def character_class(self) -> str:
        negated = self.take("^")
        if self.peek() == "]":
            if "]" not in self.source[self.at + 1 :]:
                raise failure("empty char-class")
            self.at += 1
            items = ["\\]"]
            low: str | None = "]"
        else:
            items, low = [], None
        while not self.take("]"):
            if self.at >= len(self.source):
                raise failure("premature end of char-class")
            if self.peek() == "-" and low is not None and self.peek(1) not in {"]", ""}:
                self.at += 1
                high, text = self.member()
                if high is None:
                    items += ["\\-", text]
                else:
                    if high < low:
                        raise failure("empty range in char class")
                    items[-1] = f"{literal(low)}-{literal(high)}"
                low = None
                continue
            low, text = self.member()
            items.append(text)
        if not items:
            raise failure("empty char-class")
        return f"[{'^' if negated else ''}{''.join(items)}]"

    def member(self) -> tuple[str | None, str]:
        """Take one member of a class: its character, or None for a class in it; and its text."""
        char = self.next()
        if char == "[" and self.peek() == ":":
            posix = self.posix()
            if posix is not None:
                return None, posix
        if char != "\\":
            return char, literal(char)
        if self.at >= len(self.source):
            raise failure("end pattern at escape")
        char = self.next()
        if char in _TYPES:
            return None, f"\\{char}"
        if char in "pP":
            found = self.property(char)
            if found is not None:
                return None, found
        char = "\b" if char == "b" else self.code(char)
        return char, literal(char)

    def posix(self) -> str | None:
        """Take `[:name:]`; what is none is text."""
        end = self.source.find(":]", self.at + 1)
        name = self.source[self.at + 1 : end] if end > 0 else ""
        known = _POSIX.get(name.removeprefix("^"))
        if known is None:
            if end > 0 and name.removeprefix("^").isalpha():
                raise failure("invalid POSIX bracket type")
            return None
        self.at = end + 2
        return f"[^{known}]" if name.startswith("^") else known


def literal(char: str) -> str:
    """Return a pattern that matches the character itself."""
    if char.isalnum() or char == "_" or ord(char) > 0x7F:
        return char
    return f"\\x{ord(char):02x}"


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
