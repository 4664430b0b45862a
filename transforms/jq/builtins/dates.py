"""Dates and times: seconds since 1970 in UTC, and "broken-down" arrays of jq.

An array is [year, month from 0, day, hours, minutes, seconds, day of week from Sunday, day of year from 0].
Formats are C's; local time is that of the machine, or of the variable TZ.
"""

from __future__ import annotations

import math
import re
import time
from functools import lru_cache
from typing import Any

from transforms.jq.arithmetic import add, subtract, to_double, whole
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.strptime import (
    MONTHS,
    SPACE,
    WEEKDAYS,
    days_before,
    parse,
)
from transforms.jq.errors import LARGEST_TEXT, JqError, TooLarge

ISO8601 = "%Y-%m-%dT%H:%M:%SZ"

_NUMBERS = (int, float)
_LARGEST = 67_768_036_191_676_799
"""The last second of the year 2**31 + 1899, the last that C's struct tm can hold."""
_SMALLEST = -67_768_040_609_740_800
_FIELDS = 8
_MONTHS = [name.title() for name in MONTHS]
_WEEKDAYS = [name.title() for name in (*WEEKDAYS[1:], WEEKDAYS[0])]
_INT_MAX = 2**31 - 1
_ISO_DAY = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
_ISO_HOURS = {f"T{hour:02}:": hour for hour in range(24)}
_ISO_MINUTES = {f"{minute:02}:": minute for minute in range(60)}
_ISO_SECONDS = {f"{second:02}Z": second for second in range(60)}
_GMT = (0, "GMT", 0)
_DIRECTIVE = re.compile(r"%[_0^#-]*[0-9]*[EO]?[a-zA-Z%+]")


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month from 0, and day of a number of days since 1970-01-01."""
    # Years that begin in March have their leap day last: an era is 400 of them.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    yearday = day - (365 * year + year // 4 - year // 100)
    month = (5 * yearday + 2) // 153
    return (
        year + era * 400 + (month >= 10),
        (month + 2) % 12,
        yearday - (153 * month + 2) // 5 + 1,
    )


@lru_cache(maxsize=4096)
def _day(days: int) -> tuple[int, int, int, int, int]:
    """Return year, month from 1, day, day of week from Monday, day of year from 1. Times come in days."""
    year, month, day = _civil(days)
    return year, month + 1, day, (days + 3) % 7, days - days_before(year, 0) + 1


def _moment(seconds: int) -> _Moment:
    """Return the moment in UTC of seconds since 1970."""
    days, rest = divmod(seconds, 86_400)
    year, month, day, weekday, yearday = _day(days)
    return year, month, day, rest // 3600, rest // 60 % 60, rest % 60, weekday, yearday


def _seconds(value: Any, function: str) -> tuple[int, float]:
    if type(value) not in _NUMBERS:
        raise JqError(f"{function}() requires numeric inputs")
    if math.isnan(to_double(value)) or not _SMALLEST <= value <= _LARGEST:
        raise JqError("error converting number of seconds since epoch to datetime")
    # C cuts the fraction off and jq adds what is above the floor: -1.5 is second 59.5 before 1970.
    return int(value), 0 if type(value) is int else value - math.floor(value)


def gmtime(value: Any) -> list[Any]:
    """Return the broken-down time of seconds since 1970."""
    seconds, fraction = _seconds(value, "gmtime")
    year, month, day, hour, minute, second, weekday, yearday = _moment(seconds)
    if fraction:
        second += fraction  # type: ignore[assignment] # a double then
    return [year, month - 1, day, hour, minute, second, (weekday + 1) % 7, yearday - 1]


def localtime(value: Any) -> list[Any]:
    """Return the broken-down local time of seconds since 1970."""
    seconds, fraction = _seconds(value, "localtime")
    try:
        local = time.localtime(seconds)
    except (OverflowError, OSError, ValueError):
        raise JqError("error converting number of seconds since epoch to datetime") from None
    return [
        local.tm_year,
        local.tm_mon - 1,
        local.tm_mday,
        local.tm_hour,
        local.tm_min,
        local.tm_sec + fraction if fraction else local.tm_sec,
        (local.tm_wday + 1) % 7,
        local.tm_yday - 1,
    ]


def _fields(value: list[Any]) -> list[int] | None:
    """Return the parts of a broken-down time, with 0 (1900) for missing ones; None if it is none."""
    if len(value) == _FIELDS and all(type(part) is int for part in value):
        return value if max(map(abs, value)) <= _INT_MAX else None
    fields: list[int] = []
    for part in value[:_FIELDS]:
        if type(part) not in _NUMBERS or part != part:  # noqa: PLR0124 - nan
            return None
        # C counts years from 1900, and cuts the fraction off of that.
        offset = 0 if fields else 1900
        fields.append(int(max(-_INT_MAX - 1, min(_INT_MAX, part - offset))) + offset)
    return fields + [1900, 0, 0, 0, 0, 0][len(fields) :]


def _epoch(fields: list[int]) -> int:
    year, month, day, hour, minute, second = fields[:6]
    days = days_before(year, month) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def mktime(value: Any) -> int:
    """Return the seconds since 1970 of a broken-down time in UTC; its parts may be out of range."""
    if type(value) is not list:
        raise JqError("mktime requires array inputs")
    fields = _fields(value)
    if fields is None:
        raise JqError("mktime requires parsed datetime inputs")
    return _told(_epoch(fields))


def _told(seconds: int) -> int:
    if seconds == -1:
        # C's own mktime answers -1 for what it cannot tell, so that this one second is lost.
        raise JqError("invalid gmtime representation")
    if seconds == -2:
        # And so is this one: jq's own word for a machine without such a function.
        raise JqError("mktime not supported on this platform")
    return seconds


@lru_cache(maxsize=4096)
def _iso_day(text: str) -> tuple[tuple[int, int, int], int] | None:
    """Return year, month from 0 and day of 2015-03-05, and the days from 1970 to the month's first."""
    found = _ISO_DAY.fullmatch(text)
    if found is None:
        return None
    year, month, day = map(int, found.groups())
    return (year, month - 1, day), days_before(year, month - 1)


def _iso(text: str) -> tuple[tuple[int, int, int], int, int, int, int] | None:
    """Return the parts of a time like 2015-03-05T23:51:47Z, None for any other."""
    if len(text) != 20 or (found := _iso_day(text[:10])) is None:
        return None
    try:
        return *found, _ISO_HOURS[text[10:14]], _ISO_MINUTES[text[14:17]], _ISO_SECONDS[text[17:]]
    except KeyError:
        return None


def strptime(value: Any, layout: Any) -> list[Any]:
    """Return the broken-down time that a string names in a format; what is left of it comes ninth."""
    if type(value) is not str or type(layout) is not str:
        raise JqError("strptime/1 requires string inputs and arguments")
    if layout == ISO8601 and (iso := _iso(value)) is not None:
        (year, month, day), before, hour, minute, second = iso
        yearday = before - days_before(year, 0) + day - 1
        return [year, month, day, hour, minute, second, (before + day + 3) % 7, yearday]
    text, form = value.partition("\0")[0], layout.partition("\0")[0]
    read = parse(text, form)
    if read is None or (read[1] and read[1][0] not in SPACE):
        raise JqError(f'date "{text}" does not match format "{form}"')
    found, rest = read
    parts: list[Any] = [found.year, found.month, found.day, found.hour, found.minute, found.second]
    parts += [found.weekday, found.yearday]
    return [*parts, rest] if rest else parts


@lru_cache(maxsize=256)
def _parts(layout: str) -> tuple[str, ...]:
    """Return a format as text and directives in turn."""
    parts: list[str] = []
    at = 0
    for found in _DIRECTIVE.finditer(layout):
        parts += [layout[at : found.start()], found[0]]
        at = found.end()
    return (*parts, layout[at:])


_Moment = tuple[int, int, int, int, int, int, int, int]
"""Year, month from 1, day, hour, minute, second, day of week from Monday, day of year from 1."""

_WRITTEN: dict[str, tuple[str, tuple[int, ...]]] = {
    "%%": ("%%", ()),
    "%Y": ("%d", (0,)),
    "%m": ("%02d", (1,)),
    "%d": ("%02d", (2,)),
    "%e": ("%2d", (2,)),
    "%H": ("%02d", (3,)),
    "%M": ("%02d", (4,)),
    "%S": ("%02d", (5,)),
    "%j": ("%03d", (7,)),
    "%F": ("%d-%02d-%02d", (0, 1, 2)),
    "%T": ("%02d:%02d:%02d", (3, 4, 5)),
    "%y": ("%02d", (8,)),
    "%I": ("%02d", (9,)),
    "%p": ("%s", (10,)),
    "%a": ("%.3s", (11,)),
    "%A": ("%s", (11,)),
    "%b": ("%.3s", (12,)),
    "%B": ("%s", (12,)),
}
"""Directives as Python writes them, and of what: a part of the moment, or of `_named` behind it.

As C writes them in its own locale, which Python leaves times in.
"""


def _named(moment: _Moment) -> tuple[int, int, str, str, str]:
    """Return what stands behind the parts of a moment: year of the century, hour of twelve, names."""
    year, month, _, hour, _, _, weekday, _ = moment
    half = "PM" if hour > 11 else "AM"
    return year % 100, (hour + 11) % 12 + 1, half, _WEEKDAYS[weekday], _MONTHS[month - 1]


@lru_cache(maxsize=256)
def _template(layout: str) -> tuple[str, tuple[int, ...], bool] | None:
    """Return a format in Python's terms, what it takes, and whether that has names; None where only C can."""
    text = ""
    taken: tuple[int, ...] = ()
    for part in _parts(layout):
        if part[:1] != "%":
            text += part
        elif part in _WRITTEN:
            form, places = _WRITTEN[part]
            text += form
            taken += places
        else:
            return None
    return text, taken, max(taken, default=0) > 7


def _formatted(layout: str, moment: _Moment, zone: tuple[int, str, int], name: str) -> str:
    layout = layout.partition("\0")[0]
    template = _template(layout) if 1000 <= moment[0] <= 9999 else None
    if template is not None:
        form, taken, is_named = template
        parts = (*moment, *_named(moment)) if is_named else moment
        text = form % tuple([parts[place] for place in taken])
    else:
        at = time.struct_time((*moment, *zone))
        try:
            text = "".join([time.strftime(p, at) if p[:1] == "%" else p for p in _parts(layout)])
        except (OverflowError, ValueError):
            # A year that C's struct tm doesn't hold.
            raise JqError(f"{name}: unknown system failure") from None
    if len(text) > LARGEST_TEXT:
        raise TooLarge("a string of more than 64 M characters")
    return text


def strftime(value: Any, layout: Any) -> str:
    """Return a time, in seconds or broken down, written in a format, in UTC."""
    if type(value) in _NUMBERS:
        seconds = _seconds(value, "gmtime")[0]
        if layout == ISO8601:
            year, month, day, hour, minute, second, _, _ = _moment(seconds)
            return f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        if type(layout) is not str:
            raise JqError("strftime/1 requires a string format")
    else:
        # Normalised, as C does it: the 32nd of a month is in the next.
        seconds = _epoch(_checked(value, layout, "strftime/1", gmtime))
    return _formatted(layout, _moment(seconds), _GMT, "strftime/1")


def strflocaltime(value: Any, layout: Any) -> str:
    """Return a time, in seconds or broken down in local time, written in a format, in local time."""
    fields = _checked(value, layout, "strflocaltime/1", localtime)
    year, month, day, hour, minute, second = fields[:6]
    try:
        local = time.localtime(time.mktime((year, month + 1, day, hour, minute, second, 0, 0, -1)))
    except (OverflowError, OSError, ValueError):
        raise JqError("strflocaltime/1: unknown system failure") from None
    at = (local.tm_year, local.tm_mon, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec)
    zone = (local.tm_isdst, local.tm_zone, local.tm_gmtoff)
    return _formatted(layout, (*at, local.tm_wday, local.tm_yday), zone, "strflocaltime/1")


def _checked(value: Any, layout: Any, name: str, from_seconds: Any) -> list[int]:
    if type(value) in _NUMBERS:
        value = from_seconds(value)
    elif type(value) is not list:
        raise JqError(f"{name} requires parsed datetime inputs")
    if type(layout) is not str:
        raise JqError(f"{name} requires a string format")
    fields = _fields(value)
    if fields is None:
        raise JqError(f"{name} requires parsed datetime inputs")
    return fields


def from_iso(value: Any) -> int:
    """Return the seconds since 1970 of an ISO 8601 time like 2015-03-05T23:51:47Z."""
    if type(value) is str and (iso := _iso(value)) is not None:
        (_, _, day), before, hour, minute, second = iso
        return _told((((before + day - 1) * 24 + hour) * 60 + minute) * 60 + second)
    return mktime(strptime(value, ISO8601))


def to_iso(value: Any) -> str:
    """Return seconds since 1970, or a broken-down time, in ISO 8601."""
    return strftime(value, ISO8601)


FUNCTIONS = {
    ("now", 0): Builtin(lambda _: whole(time.time()), pure=False),
    ("gmtime", 0): Builtin(gmtime),
    ("localtime", 0): Builtin(localtime, pure=False),
    ("mktime", 0): Builtin(mktime),
    ("strptime", 1): Builtin(strptime),
    ("strftime", 1): Builtin(strftime),
    ("strflocaltime", 1): Builtin(strflocaltime, pure=False),
    ("fromdateiso8601", 0): Builtin(from_iso),
    ("todateiso8601", 0): Builtin(to_iso),
    ("fromdate", 0): Builtin(from_iso),
    ("todate", 0): Builtin(to_iso),
    ("date", 0): Builtin(to_iso),
    ("dateadd", 2): Builtin(lambda value, _, seconds: add(value, seconds)),
    ("datesub", 2): Builtin(lambda value, _, seconds: subtract(value, seconds)),
}
