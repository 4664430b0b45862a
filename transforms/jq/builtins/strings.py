"""Text: searching, cutting, joining, code points. Offsets and lengths are in code points."""

from __future__ import annotations

from typing import Any

from transforms.jq.arithmetic import add, split_text
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.types import tostring
from transforms.jq.errors import LARGEST_TEXT, JqError, TooLarge
from transforms.jq.paths import cut, index, iterate
from transforms.jq.values import truthy, type_error

_SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_UPPER = dict(zip(range(ord("a"), ord("z") + 1), range(ord("A"), ord("Z") + 1), strict=True))
_LOWER = {upper: lower for lower, upper in _UPPER.items()}


def startswith(value: Any, prefix: Any) -> bool:
    """Return whether a string begins with another."""
    if type(value) is not str or type(prefix) is not str:
        raise JqError("startswith() requires string inputs")
    return value.startswith(prefix)


def endswith(value: Any, suffix: Any) -> bool:
    """Return whether a string ends with another."""
    if type(value) is not str or type(suffix) is not str:
        raise JqError("endswith() requires string inputs")
    return value.endswith(suffix)


def ltrimstr(value: Any, prefix: Any) -> Any:
    """Return a string without a prefix."""
    return value[len(prefix) :] if startswith(value, prefix) else value


def rtrimstr(value: Any, suffix: Any) -> Any:
    """Return a string without a suffix."""
    return value[: len(value) - len(suffix)] if endswith(value, suffix) else value


def trimstr(value: Any, part: Any) -> Any:
    """Return a string without `part` at either end."""
    return rtrimstr(ltrimstr(value, part), part)


def _trimmable(value: Any) -> str:
    if type(value) is not str:
        raise JqError("trim input must be a string")
    return value


def split(value: Any, separator: Any) -> list[str]:
    """Return the parts of a string between separators."""
    if type(value) is not str or type(separator) is not str:
        raise JqError("split input and separator must be strings")
    return value.split(separator) if separator and value else split_text(value, separator)


def explode(value: Any) -> list[int]:
    """Return the code points of a string."""
    if type(value) is not str:
        raise JqError("explode input must be a string")
    return list(map(ord, value))


def implode(value: Any) -> str:
    """Return the string of an array of code points; U+FFFD for what is none."""
    if type(value) is not list:
        raise JqError("implode input must be an array")
    return "".join([_character(point) for point in value])


def _character(point: Any) -> str:
    if (type(point) is not int and type(point) is not float) or point != point:  # noqa: PLR0124 - nan
        raise type_error(point, "can't be imploded, unicode codepoint needs to be numeric")
    number = cut(point)
    if 0 <= number < 0xD800 or 0xDFFF < number <= 0x10FFFF:
        return chr(number)
    return "\ufffd"


def ascii_character(value: Any) -> str:
    """Return the character of a code point."""
    return implode([value])


def ascii_downcase(value: Any) -> str:
    """Return a string with the letters A to Z as small ones."""
    if type(value) is not str:
        raise JqError("explode input must be a string")
    return value.lower() if value.isascii() else value.translate(_LOWER)


def ascii_upcase(value: Any) -> str:
    """Return a string with the letters a to z as capitals."""
    if type(value) is not str:
        raise JqError("explode input must be a string")
    return value.upper() if value.isascii() else value.translate(_UPPER)


def join(value: Any, separator: Any) -> Any:
    """Return the elements joined to a string: null as nothing, numbers and booleans as JSON."""
    items = iterate(value)
    if type(separator) is str:
        if set(map(type, items)) == {str}:
            return _bounded(separator.join(items))
        try:
            return _bounded(separator.join([_joinable(item) for item in items]))
        except TypeError:
            pass  # to word the error as jq does, below
    joined: Any = None
    for item in iterate(value):
        joined = add("" if joined is None else add(joined, separator), _added(item))
    return joined if truthy(joined) else ""


def _joinable(item: Any) -> str:
    if type(item) is str:
        return item
    if type(item) is list or type(item) is dict:
        raise TypeError
    return "" if item is None else tostring(item)


def _added(item: Any) -> Any:
    """Return what `join` adds for an element: false is written, so only null is nothing."""
    if item is None:
        return ""
    return item if type(item) is list or type(item) is dict else tostring(item)


def _bounded(text: str) -> str:
    if len(text) > LARGEST_TEXT:
        raise TooLarge("a string of more than 64 M characters")
    return text


def indices(value: Any, part: Any) -> Any:
    """Return where a string or array has `part`; for other values, `value[part]`."""
    if type(value) is list:
        return index(value, part if type(part) is list else [part])
    if type(value) is str and type(part) is str:
        return _found(value, part)
    return index(value, part)


def _found(text: str, part: str) -> list[int]:
    places: list[int] = []
    at = text.find(part) if part else -1
    while at >= 0:
        places.append(at)
        at = text.find(part, at + 1)
    return places


def string_indices(value: Any, part: Any) -> list[int]:
    """Return where a string has `part`: jq's own, which its programs should not need but may call."""
    if type(value) is not str:
        raise type_error(value, "cannot be searched, as it is not a string")
    if type(part) is not str:
        raise type_error(part, "is not a string")
    return _found(value, part)


def first_index(value: Any, part: Any) -> Any:
    """Return the first of `indices`, null when there is none."""
    if type(value) is str and type(part) is str:
        at = value.find(part) if part else -1
        return at if at >= 0 else None
    return index(indices(value, part), 0)


def last_index(value: Any, part: Any) -> Any:
    """Return the last of `indices`, null when there is none."""
    if type(value) is str and type(part) is str:
        at = value.rfind(part) if part else -1
        return at if at >= 0 else None
    return index(index(indices(value, part), {"start": -1, "end": None}), 0)


FUNCTIONS = {
    ("startswith", 1): Builtin(startswith),
    ("endswith", 1): Builtin(endswith),
    ("ltrimstr", 1): Builtin(ltrimstr),
    ("rtrimstr", 1): Builtin(rtrimstr),
    ("trimstr", 1): Builtin(trimstr),
    ("trim", 0): Builtin(lambda value: _trimmable(value).strip(_SPACES)),
    ("ltrim", 0): Builtin(lambda value: _trimmable(value).lstrip(_SPACES)),
    ("rtrim", 0): Builtin(lambda value: _trimmable(value).rstrip(_SPACES)),
    ("split", 1): Builtin(split),
    ("explode", 0): Builtin(explode),
    ("implode", 0): Builtin(implode),
    ("ascii", 0): Builtin(ascii_character),
    ("ascii_downcase", 0): Builtin(ascii_downcase),
    ("ascii_upcase", 0): Builtin(ascii_upcase),
    ("join", 1): Builtin(join),
    ("_strindices", 1): Builtin(string_indices),
    ("indices", 1): Builtin(indices),
    ("index", 1): Builtin(first_index),
    ("rindex", 1): Builtin(last_index),
}
