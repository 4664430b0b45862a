"""Values as JSON text, written and read the way jq does it.

Where this differs from jq: integers keep all their digits (jq prints those of a computed number to 17),
and a number with a fraction or an exponent is a double (jq keeps the digits of an untouched literal).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson

from transforms.jq.errors import JqError

DEEPEST = 10_000
"""Levels of nesting that jq writes, reads and compares."""

SHOWN = 29
"""Bytes of a value that an error message repeats."""

MOST_DIGITS = 4_300
"""Digits of an integer that stays exact: what Python converts to text and back by default."""

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_UNLIKE_JQ = re.compile(rb"null|[0-9]e[-+0-9]|0\.0000")
"""How orjson writes infinities, exponents and small numbers; each may be something harmless."""
_POINTLESS = re.compile(rb"\.0[,\]}]")
_DIFFERS = re.compile(r"\.0|e\+|NaN|Infinity")
"""How the encoder above may write doubles other than jq does; in a string it only costs time."""

_HOLDS_DOUBLES = frozenset((float, list, dict))

_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\r": "\\r",
    "\n": "\\n",
    "\f": "\\f",
}
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(rb"[+-]?[0-9]+")
_NAMED = re.compile(rb"([+-]?)(?:(inf|infinity)|(s?nan))", re.IGNORECASE)
_LONG = re.compile(r"[0-9]{16}")
"""Digits that may be an integer beyond what orjson keeps."""
_SIGNED_ZERO = re.compile(r"-0(?![.0-9])")
"""The sign of a zero, which orjson and json lose."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a pair, which json would take alone."""


def to_json(value: Any) -> str:
    """Return a value as jq's `tojson` writes it: 3.0 as 3, nan as null, an infinity as the largest double.

    Levels below the 10,000th are written `<skipped: too deep>`, as jq does.
    """
    kind = type(value)
    if kind is str:
        return _string(value)
    if kind is float:
        return number_text(value)
    try:
        raw = orjson.dumps(value)
        if _UNLIKE_JQ.search(raw):
            return _carefully(value)
        if _POINTLESS.search(raw):
            raw = orjson.dumps(_as_written(value))
    except (TypeError, _MinusZero):
        # Integers above 64 bits, deeper levels, a zero with a sign.
        return _carefully(value)
    text = raw.decode()
    return text.replace("\x7f", "\\u007f") if "\x7f" in text else text


def _carefully(value: Any) -> str:
    """Return a value as `to_json` does, whatever is in it."""
    try:
        text = _encode(value)
        if _DIFFERS.search(text):
            text = _encode(_as_written(value))
    except (RecursionError, _MinusZero):
        return "".join(_pieces(value))
    if text.count("[") + text.count("{") > DEEPEST and _too_deep(value):
        return "".join(_pieces(value))
    return text.replace("\x7f", "\\u007f") if "\x7f" in text else text


class _MinusZero(Exception):  # noqa: N818 - no error
    """The one double that no value of Python's encoder is written like."""


def _as_written(value: Any) -> Any:
    """Return a value whose numbers Python's encoder writes as jq does. Raises _MinusZero."""
    kind = type(value)
    if kind is float:
        if value.is_integer() and -1e16 < value < 1e16:
            if not value and math.copysign(1, value) < 0:
                raise _MinusZero
            return int(value)
        text = number_text(value)
        if text == "null":
            return None
        return float(text) if "." in text or "e" in text else int(text)
    if kind is list:
        return [
            _as_written(member) if type(member) in _HOLDS_DOUBLES else member for member in value
        ]
    if kind is dict:
        return {
            key: _as_written(member) if type(member) in _HOLDS_DOUBLES else member
            for key, member in value.items()
        }
    return value


def number_text(value: int | float) -> str:  # noqa: PYI041 - an integer is not printed as a double
    """Return a number as jq prints it: 17 digits, an exponent from 16 zeros on, `1e-05`."""
    if type(value) is int:
        return str(value)
    if value != value:  # noqa: PLR0124 - the only value that differs from itself
        return "null"
    if math.isinf(value):
        return "1.7976931348623157e+308" if value > 0 else "-1.7976931348623157e+308"
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    mantissa, _, exponent = text.partition("e+")
    if exponent:
        # Python uses an exponent from 1e16 on, jq when 16 zeros or more would follow the digits.
        sign = "-" if mantissa[0] == "-" else ""
        whole, _, fraction = mantissa.lstrip("-").partition(".")
        zeros = int(exponent) - len(fraction)
        if zeros <= 15:
            return f"{sign}{whole}{fraction}{'0' * zeros}"
    return text


def shortened(value: Any) -> str:
    """Return a value as jq's error messages show it: JSON, cut to 29 bytes with `...`."""
    text = ""
    for piece in _pieces(value):
        text += piece[: SHOWN + 1]
        if len(text) > SHOWN:
            break
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= SHOWN:
        return text
    close = {'"': '"', "[": "]", "{": "}"}.get(text[0], "")
    cut = raw[: SHOWN - len("...") - len(close)].decode("utf-8", "ignore")
    return f"{cut}...{close}"


def number_from_text(text: str) -> int | float | None:
    """Return the number that `text` is to jq, None when it is none.

    Any decimal number with a sign, a point or an exponent; `nan` and `infinity` in any case.
    Integers are exact up to 4,300 digits.
    """
    return _number(text.encode("utf-8", "surrogatepass"))


def from_json(text: str) -> Any:
    """Return the one value that `text` holds. Raises JqError with jq's message and place."""
    try:
        if not ("-0" in text and _SIGNED_ZERO.search(text)):
            if not _LONG.search(text):
                return orjson.loads(text)
            if not ("\\u" in text and _SURROGATE.search(text)):
                return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass  # not JSON, or what jq reads beyond it: nan, 01, one more level
    return _Reader(text).value()


def _refuse(_: str) -> Any:
    raise ValueError


def _number(raw: bytes) -> int | float | None:
    if _NUMBER.fullmatch(raw):
        if _INTEGER.fullmatch(raw):
            if len(raw) > MOST_DIGITS:
                return _exact(raw) if len(raw.lstrip(b"+-0")) <= MOST_DIGITS else float(raw)
            whole = int(raw)
            return whole if whole or raw[:1] != b"-" else -0.0
        number = float(raw)
        return int(number) if number.is_integer() and 0 < abs(number) < 1e17 else number
    named = _NAMED.fullmatch(raw)
    if named is None:
        return None
    if named[3]:
        return math.nan
    return -math.inf if named[1] == b"-" else math.inf


def _exact(raw: bytes) -> int:
    return int(raw.lstrip(b"+-0") or b"0") * (-1 if raw[:1] == b"-" else 1)


def _string(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    return _string(value) if type(value) is str else number_text(value)


def _pieces(value: Any) -> Iterator[str]:
    """Yield a value's text piece by piece, without recursion."""
    if not isinstance(value, (list, dict)):
        yield _scalar(value)
        return
    stack: list[tuple[Iterator[Any], str]] = []
    opening, closing, members = _opened(value)
    yield opening
    first = True
    while True:
        for member in members:
            if not first:
                yield ","
            first = False
            if closing == "}":
                key, member = member  # noqa: PLW2901 - an object's members are its items
                yield _string(key)
                yield ":"
            if len(stack) >= DEEPEST:
                yield "<skipped: too deep>"
            elif not isinstance(member, (list, dict)):
                yield _scalar(member)
            else:
                stack.append((members, closing))
                opening, closing, members = _opened(member)
                yield opening
                first = True
                break
        else:
            yield closing
            if not stack:
                return
            members, closing = stack.pop()
            first = False


def _too_deep(value: Any) -> bool:
    """Return whether a value has more levels than are written."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            member
            for outer in level
            for member in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(member, (list, dict))
        ]
        if not level:
            return False
    return True


def _opened(value: list[Any] | dict[str, Any]) -> tuple[str, str, Iterator[Any]]:
    if isinstance(value, dict):
        return "{", "}", iter(value.items())
    return "[", "]", iter(value)


_CONSTANTS = {b"true": True, b"false": False, b"null": None}
_NOTHING = object()


class _Reader:
    """jq's reader of JSON, token by token: slower than orjson, and it words the errors."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.line, self.column = 1, 0
        self.stack: list[Any] = []
        """Open arrays and objects, and the keys of the latter as `(key,)`."""
        self.next: Any = _NOTHING
        self.done: list[Any] = []

    def value(self) -> Any:
        """Return the value. Raises JqError."""
        try:
            self._read(self.text.encode("utf-8", "surrogatepass"))
        except ValueError as error:
            said = error.args[0]
        else:
            if len(self.done) == 1:
                return self.done[0]
            said = "Unexpected extra JSON values" if self.done else "Expected JSON value"
        shown = self.text.partition("\0")[0]
        raise JqError(f"{said} (while parsing '{shown}')")

    def _read(self, raw: bytes) -> None:
        token = bytearray()
        in_string = escaped = False
        for byte in raw.removeprefix(b"\xef\xbb\xbf"):
            self.column += 1
            if byte == 0x0A:
                self.line += 1
                self.column = 0
            if in_string:
                if byte == 0x22 and not escaped:
                    self._put(self._unescaped(bytes(token)))
                    token.clear()
                    in_string = False
                else:
                    escaped = byte == 0x5C and not escaped
                    token.append(byte)
            elif byte in b" \t\r\n":
                self._literal(token)
            elif byte == 0x22:
                self._literal(token)
                in_string = True
            elif byte in b"[,]{:}":
                self._literal(token)
                self._structure(chr(byte))
            else:
                token.append(byte)
                continue
            self._finished()
        if in_string:
            raise ValueError(self._at("Unfinished string at EOF"))
        self._literal(token, " at EOF")
        if self.stack:
            raise ValueError(self._at("Unfinished JSON term at EOF"))
        self._finished()

    def _finished(self) -> None:
        if not self.stack and self.next is not _NOTHING:
            self.done.append(self.next)
            self.next = _NOTHING
            if len(self.done) > 1:
                raise ValueError("Unexpected extra JSON values")

    def _at(self, message: str) -> str:
        return f"{message} at line {self.line}, column {self.column}"

    def _put(self, value: Any, where: str = "") -> None:
        if self.next is not _NOTHING:
            raise ValueError(self._at(f"Expected separator between values{where}"))
        self.next = value

    def _literal(self, token: bytearray, where: str = "") -> None:
        if not token:
            return
        raw = bytes(token)
        token.clear()
        if raw[:1] == b"'":
            raise ValueError(self._at(f"Invalid string literal; expected \", but got '{where}"))
        if raw[:1] in {b"t", b"f"} or raw[:2] == b"nu":
            if raw not in _CONSTANTS:
                raise ValueError(self._at(f"Invalid literal{where}"))
            self._put(_CONSTANTS[raw], where)
        else:
            number = _number(raw.partition(b"\0")[0])
            if number is None:
                raise ValueError(self._at(f"Invalid numeric literal{where}"))
            self._put(number, where)
        if not where:
            self._finished()

    def _structure(self, char: str) -> None:
        stack, value = self.stack, self.next
        top = stack[-1] if stack else None
        wrong = ""
        if char in "[{":
            if len(stack) >= DEEPEST:
                wrong = "Exceeds depth limit for parsing"
            elif value is not _NOTHING:
                wrong = "Expected separator between values"
            else:
                stack.append([] if char == "[" else {})
        elif char == ":":
            if value is _NOTHING:
                wrong = "Expected string key before ':'"
            elif type(top) is not dict:
                wrong = "':' not as part of an object"
            elif type(value) is not str:
                wrong = "Object keys must be strings"
            else:
                stack.append((value,))
                self.next = _NOTHING
        elif char == ",":
            if value is _NOTHING:
                wrong = "Expected value before ','"
            elif not stack:
                wrong = "',' not as part of an object or array"
            elif type(top) is list:
                top.append(value)
                self.next = _NOTHING
            elif type(top) is tuple:
                self._member()
            else:
                wrong = "Objects must consist of key:value pairs"
        elif char == "]":
            if type(top) is not list:
                wrong = "Unmatched ']'"
            elif value is not _NOTHING:
                top.append(value)
                self.next = stack.pop()
            elif top:
                wrong = "Expected another array element"
            else:
                self.next = stack.pop()
        elif not stack:
            wrong = "Unmatched '}'"
        elif value is not _NOTHING:
            if type(top) is tuple:
                self._member()
                self.next = stack.pop()
            else:
                wrong = "Objects must consist of key:value pairs"
        elif type(top) is not dict:
            wrong = "Unmatched '}'"
        elif top:
            wrong = "Expected another key-value pair"
        else:
            self.next = stack.pop()
        if wrong:
            raise ValueError(self._at(wrong))

    def _member(self) -> None:
        (key,) = self.stack.pop()
        self.stack[-1][key] = self.next
        self.next = _NOTHING

    def _unescaped(self, raw: bytes) -> str:
        try:
            return _SEQUENCE.sub(_character, raw.decode("utf-8", "replace"))
        except ValueError as error:
            raise ValueError(self._at(error.args[0])) from None


_SEQUENCE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\u([0-9a-fA-F]{4})|\\(.)|[\x00-\x1f]",
    re.DOTALL,
)
_UNESCAPES = {"b": "\b", "t": "\t", "r": "\r", "n": "\n", "f": "\f", "/": "/", "\\": "\\", '"': '"'}


def _character(found: re.Match[str]) -> str:
    high, low, code, escape = found.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    if code:
        number = int(code, 16)
        if 0xD800 <= number <= 0xDBFF:
            raise ValueError("Invalid \\uXXXX\\uXXXX surrogate pair escape")
        return chr(number) if not 0xDC00 <= number <= 0xDFFF else "\ufffd"
    if escape is None:
        raise ValueError(
            "Invalid string: control characters from U+0000 through U+001F must be escaped"
        )
    if escape == "u":
        rest = found.string[found.end() :].encode("utf-8", "replace")
        raise ValueError(
            "Invalid \\uXXXX escape" if len(rest) < 4 else "Invalid characters in \\uXXXX escape"
        )
    if escape not in _UNESCAPES:
        raise ValueError("Invalid escape")
    return _UNESCAPES[escape]
