"""The `@formats`: how a value is written inside text of another language."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.types import tostring
from transforms.jq.errors import JqError
from transforms.jq.json_text import to_json
from transforms.jq.values import type_error

_COMPOSITE = (list, dict)


def _escaper(table: dict[str, str]) -> Callable[[str], str]:
    # jq writes NUL as \0 in each of these.
    codes = str.maketrans({"\0": "\\0", **table})
    return lambda text: text.translate(codes)


_html = _escaper({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"})
_csv = _escaper({'"': '""'})
_tsv = _escaper({"\t": "\\t", "\r": "\\r", "\n": "\\n", "\\": "\\\\"})
_sh = _escaper({"'": "'\\''"})


def _row(value: Any, name: str, separator: str, cell: Callable[[str], str]) -> str:
    if type(value) is not list:
        raise type_error(value, f"cannot be {name}-formatted, only array")
    return separator.join([_cell(item, cell) for item in value])


def _cell(item: Any, cell: Callable[[str], str]) -> str:
    if type(item) is str:
        return cell(item)
    if type(item) in _COMPOSITE:
        raise type_error(item, "is not valid in a csv row")
    return "" if item is None or item != item else to_json(item)  # noqa: PLR0124 - nan


def csv(value: Any) -> str:
    """Return an array as a row of comma-separated values, text in quotes."""
    return _row(value, "csv", ",", lambda text: f'"{_csv(text)}"')


def tsv(value: Any) -> str:
    """Return an array as a row of tab-separated values."""
    return _row(value, "tsv", "\t", _tsv)


def html(value: Any) -> str:
    """Return text that shows as the value in HTML and XML."""
    return _html(tostring(value))


def uri(value: Any) -> str:
    """Return the value percent-encoded."""
    return quote(tostring(value).encode("utf-8", "surrogatepass"), safe="")


_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})?")


def urid(value: Any) -> str:
    """Return the text of a percent-encoded value."""
    text = tostring(value)
    try:
        return _PERCENT.sub(_octet, text.encode()).decode()
    except ValueError:
        raise type_error(text, "is not a valid uri encoding") from None


def _octet(found: re.Match[bytes]) -> bytes:
    if found[1] is None:
        raise ValueError
    return bytes.fromhex(found[1].decode())


def sh(value: Any) -> str:
    """Return the value, or the elements of an array, as words of a POSIX shell."""
    return " ".join([_word(item) for item in (value if type(value) is list else [value])])


def _word(item: Any) -> str:
    if type(item) is str:
        return f"'{_sh(item)}'"
    if type(item) in _COMPOSITE:
        raise type_error(item, "can not be escaped for shell")
    return to_json(item)


def base64_text(value: Any) -> str:
    """Return the value's text in base64."""
    return base64.b64encode(tostring(value).encode("utf-8", "surrogatepass")).decode()


_BASE64 = re.compile(r"[A-Za-z0-9+/]*")


def base64_decoded(value: Any) -> str:
    """Return the text that a value holds in base64, padded or not; U+FFFD for what is no UTF-8."""
    text = tostring(value)
    body = text.partition("=")[0]
    if not _BASE64.fullmatch(body):
        raise type_error(text, "is not valid base64 data")
    if len(body) % 4 == 1:
        raise type_error(text, "trailing base64 byte found")
    return decoded(base64.b64decode(body + "=" * (-len(body) % 4)))


def base32_text(value: Any) -> str:
    """Return the value's text in base32."""
    return base64.b32encode(tostring(value).encode("utf-8", "surrogatepass")).decode()


def base32_decoded(value: Any) -> str:
    """Return the text that a value holds in base32, padded or not."""
    text = tostring(value)
    body = text.rstrip("=")
    try:
        return decoded(base64.b32decode(body + "=" * (-len(body) % 8)))
    except ValueError:
        raise type_error(text, "is not valid base32 data") from None


_BROKEN = re.compile(
    rb"(?:[\xc2-\xdf]|[\xe0-\xef].?|[\xf0-\xf4].{0,2})\Z"
    rb"|[\xc2-\xdf][\x80-\xbf]?|[\xe0-\xef][\x80-\xbf]{0,2}|[\xf0-\xf4][\x80-\xbf]{0,3}|[\x80-\xff]",
    re.DOTALL,
)
"""A sequence as far as it goes: jq writes one U+FFFD for it all, Python one for each wrong byte.

One that the end cuts short takes with it whatever is left.
"""


def decoded(raw: bytes) -> str:
    """Return bytes as text, with U+FFFD where they are no UTF-8, as jq does it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _BROKEN.sub(_valid, raw).decode()


def _valid(found: re.Match[bytes]) -> bytes:
    try:
        found[0].decode()
    except UnicodeDecodeError:
        return "\ufffd".encode()
    return found[0]


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": tostring,
    "json": to_json,
    "csv": csv,
    "tsv": tsv,
    "html": html,
    "uri": uri,
    "urid": urid,
    "sh": sh,
    "base64": base64_text,
    "base64d": base64_decoded,
    "base32": base32_text,
    "base32d": base32_decoded,
}
"""Name behind `@` → what writes a value in that format."""


def format_as(value: Any, name: Any) -> str:
    """Return the value in the format of a name. Raises JqError for an unknown one."""
    if type(name) is not str:
        raise type_error(name, "is not a valid format")
    if name not in FORMATS:
        raise JqError(f"{name} is not a valid format")
    return FORMATS[name](value)


FUNCTIONS = {("format", 1): Builtin(format_as)}
