"""Dates and times: seconds since 1970 in UTC, and "broken-down" arrays of jq.

An array is [year, month from 0, day, hours, minutes, seconds, day of week from Sunday, day of year from 0].
Formats are C's; local time is that of the machine, or of the variable TZ.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
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
    weekday_of,
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
_ISO_TEXT = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])Z"
)
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
    days, rest = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    return [
        year,
        month,
        day,
        rest // 3600,
        rest // 60 % 60,
        rest % 60 + fraction if fraction else rest % 60,
        (days + 4) % 7,
        days - days_before(year, 0),
    ]


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
    return seconds


def strptime(value: Any, layout: Any) -> list[Any]:
    """Return the broken-down time that a string names in a format; what is left of it comes ninth."""
    if type(value) is not str or type(layout) is not str:
        raise JqError("strptime/1 requires string inputs and arguments")
    if layout == ISO8601 and (iso := _ISO_TEXT.fullmatch(value)):
        year, month, day, hour, minute, second = map(int, iso.groups())
        before = days_before(year, month - 1)
        return [
            year,
            month - 1,
            day,
            hour,
            minute,
            second,
            (before + day + 3) % 7,
            before - days_before(year, 0) + day - 1,
        ]
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


def _written(part: str, moment: time.struct_time) -> str:
    """Return a part of a format written out: the common directives here, the others by C."""
    if part[:1] != "%":
        return part
    write = _COMMON.get(part)
    if write is None or not 1000 <= moment.tm_year <= 9999:
        return time.strftime(part, moment)
    return write(moment)


_COMMON: dict[str, Callable[[time.struct_time], str]] = {
    "%%": lambda _: "%",
    "%Y": lambda at: str(at.tm_year),
    "%m": lambda at: f"{at.tm_mon:02}",
    "%d": lambda at: f"{at.tm_mday:02}",
    "%e": lambda at: f"{at.tm_mday:2}",
    "%H": lambda at: f"{at.tm_hour:02}",
    "%I": lambda at: f"{(at.tm_hour + 11) % 12 + 1:02}",
    "%M": lambda at: f"{at.tm_min:02}",
    "%S": lambda at: f"{at.tm_sec:02}",
    "%j": lambda at: f"{at.tm_yday:03}",
    "%y": lambda at: f"{at.tm_year % 100:02}",
    "%F": lambda at: f"{at.tm_year}-{at.tm_mon:02}-{at.tm_mday:02}",
    "%T": lambda at: f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}",
    "%a": lambda at: _WEEKDAYS[at.tm_wday][:3],
    "%A": lambda at: _WEEKDAYS[at.tm_wday],
    "%b": lambda at: _MONTHS[at.tm_mon - 1][:3],
    "%B": lambda at: _MONTHS[at.tm_mon - 1],
    "%p": lambda at: "PM" if at.tm_hour > 11 else "AM",
}
"""As C writes them in its own locale, which Python leaves times in."""


def _formatted(layout: str, moment: time.struct_time, name: str) -> str:
    parts = _parts(layout.partition("\0")[0])
    try:
        text = "".join([_written(part, moment) for part in parts])
    except (OverflowError, ValueError):
        # A year that C's struct tm doesn't hold.
        raise JqError(f"{name}: unknown system failure") from None
    if len(text) > LARGEST_TEXT:
        raise TooLarge("a string of more than 64 M characters")
    return text


def strftime(value: Any, layout: Any) -> str:
    """Return a time, in seconds or broken down, written in a format, in UTC."""
    if layout == ISO8601 and type(value) in _NUMBERS:
        year, month, day, hour, minute, second = gmtime(value)[:6]
        return f"{year}-{month + 1:02}-{day:02}T{hour:02}:{minute:02}:{int(second):02}Z"
    fields = _checked(value, layout, "strftime/1", gmtime)
    # Normalised, as C does it: the 32nd of a month is in the next.
    year, month, day, hour, minute, second = gmtime(_epoch(fields))[:6]
    days = days_before(year, month) + day - 1
    moment = time.struct_time(
        (
            year,
            month + 1,
            day,
            hour,
            minute,
            second,
            (weekday_of(year, month, day) + 6) % 7,
            days - days_before(year, 0) + 1,
            0,
        ),
        {"tm_zone": "GMT", "tm_gmtoff": 0},
    )
    return _formatted(layout, moment, "strftime/1")


def strflocaltime(value: Any, layout: Any) -> str:
    """Return a time, in seconds or broken down in local time, written in a format, in local time."""
    fields = _checked(value, layout, "strflocaltime/1", localtime)
    year, month, day, hour, minute, second = fields[:6]
    try:
        moment = time.localtime(time.mktime((year, month + 1, day, hour, minute, second, 0, 0, -1)))
    except (OverflowError, OSError, ValueError):
        raise JqError("strflocaltime/1: unknown system failure") from None
    return _formatted(layout, moment, "strflocaltime/1")


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
    if type(value) is str and (iso := _ISO_TEXT.fullmatch(value)):
        year, month, day, hour, minute, second = map(int, iso.groups())
        return _told(_epoch([year, month - 1, day, hour, minute, second]))
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
