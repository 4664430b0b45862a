"""Characters and character classes of a pattern in Oniguruma's syntax."""

from __future__ import annotations

import string
from functools import cache

import regex  # type: ignore[import-untyped] # it comes without types

from transforms.jq.errors import JqError

_LARGEST_CODE = 0x10FFFF
_CONTROLS = {"t": 0x09, "n": 0x0A, "r": 0x0D, "f": 0x0C, "a": 0x07, "e": 0x1B}
TYPES = frozenset("dDwWsS")
"""Escapes that are a class in both syntaxes."""
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


def failure(message: str) -> JqError:
    """Return the error of a pattern that does not compile, or of a search that was given up."""
    return JqError(f"Regex failure: {message}")


class Scanner:
    """Reads a pattern from left to right."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """Return a character further on, the empty string behind the end."""
        place = self.at + ahead
        return self.source[place] if place < len(self.source) else ""

    def take(self, text: str) -> bool:
        """Go past `text` if it comes next; return whether it did."""
        if self.source.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        """Take one character."""
        char = self.source[self.at]
        self.at += 1
        return char

    def until(self, end: str, otherwise: str) -> str:
        """Take what comes before `end`, and go past it. Raises JqError `otherwise`."""
        stop = self.source.find(end, self.at)
        if stop < 0:
            raise failure(otherwise)
        text = self.source[self.at : stop]
        self.at = stop + len(end)
        return text

    def digits(self, allowed: str, most: int) -> str:
        """Take up to `most` of the characters allowed."""
        begin = self.at
        while self.at - begin < most and self.peek() and self.peek() in allowed:
            self.at += 1
        return self.source[begin : self.at]

    # -- characters --------------------------------------------------------------------------------

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
        if not _is_property(shown):
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
        """Take a code point in braces."""
        begin = self.at
        self.at += 1
        digits = self.digits(allowed, 11)
        if not digits or not self.take("}"):
            self.at = begin
            return "\0"
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
        """Take a class whose `[` is read."""
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
                high, _ = self.member()
                if high is None:
                    raise failure("char-class value at end of range")
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
        if char in TYPES:
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


@cache
def _is_property(name: str) -> bool:
    if not name or not all(char.isalnum() or char in "_ -" for char in name):
        return False
    try:
        regex.compile(f"\\p{{{name}}}")
    except regex.error:
        return False
    return True


def literal(char: str) -> str:
    """Return a pattern that matches the character itself."""
    if char.isalnum() or char == "_" or ord(char) > 0x7F:
        return char
    return f"\\x{ord(char):02x}"
