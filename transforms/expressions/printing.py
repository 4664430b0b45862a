"""Go's functions that write text: print, println, printf, html, js. Values that don't fit raise ValueError or TypeError."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from transforms.expressions.values import kind_of, to_json, to_text

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?:\.(?P<precision>\d*))?(?P<verb>[A-Za-z%]?)"
)
_WHOLE = "dboxXc"
_FLOATS = "eEfFgG"
_VERBS = f"vsqtT{_WHOLE}{_FLOATS}"
_LONGEST = 1000
"""Width and precision: an event must not make a text of a gigabyte."""

_IN_JS = {ord(c): f"\\u{ord(c):04X}" for c in "<>&=\u2028\u2029"} | {
    ord("\\"): "\\\\",
    ord("'"): "\\'",
    ord('"'): '\\"',
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def show(*values: Any) -> str:
    """Return Go's `print`: the texts, with a blank between two values of which neither is text."""
    made = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            made += " "
        made += to_text(value)
    return made


def show_line(*values: Any) -> str:
    """Return Go's `println`: the texts with a blank between them, and the end of a line."""
    return " ".join(map(to_text, values)) + "\n"


def html(*values: Any) -> str:
    """Return Go's `html`: what `print` gives, as it can stand in HTML."""
    from html import escape  # noqa: PLC0415 - reads a table of entities that nobody else needs

    return escape(show(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def js(*values: Any) -> str:
    """Return Go's `js`: what `print` gives, as it can stand in a text of JavaScript."""
    return show(*values).translate(_IN_JS)


def printf(layout: Any, *values: Any) -> str:
    """Return the layout with its verbs (`%s`, `%d`, `%.2f`, `%q`, …) replaced by the values."""
    text = to_text(layout)
    wrong = misfit(text, len(values))
    if wrong:
        raise ValueError(wrong)
    left = iter(values)
    return _VERB.sub(lambda m: "%" if m["verb"] == "%" else _formatted(m, next(left)), text)


def misfit(layout: str, count: int) -> str:
    """Return what is wrong with a layout for so many values; "" when nothing is."""
    wanted = 0
    for match in _VERB.finditer(layout):
        verb = match["verb"]
        if verb == "%":
            continue
        if not verb or verb not in _VERBS:
            return f"{match[0]} is none of its verbs: %{', %'.join('vsdfgeqxt')}, …"
        if max(int(match["width"] or 0), int(match["precision"] or 0)) > _LONGEST:
            return f"{match[0]} is wider than {_LONGEST}"
        wanted += 1
    return "" if wanted == count else f"a layout with {wanted} of %… is given {count} values"


def _formatted(match: re.Match[str], value: Any) -> str:
    verb, flags, precision = match["verb"], match["flags"], match["precision"]
    sign = "+" if "+" in flags else " " if " " in flags else ""
    if verb in _FLOATS:
        digits = f".{precision or 0}" if precision is not None else ".6" if verb in "eEfF" else ""
        made = _float(value, verb, sign, digits)
    elif verb in _WHOLE:
        made = _whole(value, verb, sign, alternate="#" in flags)
    elif verb == "t":
        if not isinstance(value, bool):
            raise TypeError(f"%t is for true and false, found {kind_of(value)}")
        made = to_text(value)
    elif verb == "T":
        made = kind_of(value)
    else:
        made = to_json(to_text(value)) if verb == "q" else to_text(value)
        if precision is not None:
            made = made[: int(precision or 0)]
    width = int(match["width"] or 0)
    if "-" in flags:
        return made.ljust(width)
    if "0" in flags and verb in _WHOLE + _FLOATS:
        return made.zfill(width)
    return made.rjust(width)


def _float(value: Any, verb: str, sign: str, digits: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"%{verb} is for numbers, found {kind_of(value)}")
    if not digits:
        return f"{value:{sign}}"
    exact = isinstance(value, int) and verb in "fF"
    return format(Decimal(value) if exact else float(value), f"{sign}{digits}{verb}")


def _whole(value: Any, verb: str, sign: str, *, alternate: bool) -> str:
    if verb in "xX" and isinstance(value, str):
        made = value.encode().hex()
        return made.upper() if verb == "X" else made
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"%{verb} is for whole numbers, found {kind_of(value)}")
    if verb == "c":
        if 0xD800 <= value <= 0xDFFF:
            raise ValueError(f"%c is for characters, and {value} is none")
        return chr(value)
    return format(value, f"{sign}{'#' if alternate else ''}{verb}")
