"""C's `strptime` as glibc has it, in the C locale: text and format to broken-down time.

Numbers may have fewer digits than usual and spaces in front, names any case; white space in the format
stands for any, or none, in the text. What a format doesn't set stays zero; the days of week and year follow
from the date. `%z` and `%Z` are read and ignored, as times are taken for UTC.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
SPACE = " \t\n\v\f\r"

NO_WEEKDAY, NO_YEARDAY = 8, 367
"""What a time that nobody computed the day of week and year of shows there, in jq."""

_COMPOSED = {
    "c": "%a %b %e %H:%M:%S %Y",
    "D": "%m/%d/%y",
    "x": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "r": "%I:%M:%S %p",
    "R": "%H:%M",
    "T": "%H:%M:%S",
    "X": "%H:%M:%S",
}
_OFFSET = re.compile(r"[%s]*(?:Z|[+-]([0-9]{2})(?::?([0-9]{2}))?)" % re.escape(SPACE))  # noqa: UP031
_ZONE = re.compile(r"[%s]*[^%s]*" % (re.escape(SPACE), re.escape(SPACE)))  # noqa: UP031
_YEARDAYS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)


@dataclass(slots=True)
class Parsed:
    """Broken-down time while it is read: months from 0, Sunday as 0; and what was read of it."""

    year: int = 1900
    month: int = 0
    day: int = 0
    hour: int = 0
    minute: int = 0
    second: int = 0
    weekday: int = NO_WEEKDAY
    yearday: int = NO_YEARDAY
    century: int | None = None
    short_year: bool = False
    half_day: bool = False
    afternoon: bool = False
    week: int | None = None
    week_begins: int = 0
    has: frozenset[str] = frozenset()


_Step = Callable[[Parsed, str, int], int]
"""Reads on at an index and returns the next one, -1 when the text does not fit."""


def parse(text: str, layout: str) -> tuple[Parsed, str] | None:
    """Return the time that the beginning of `text` names, and the rest; None when it does not fit."""
    found = Parsed()
    at = 0
    for step in _steps(layout):
        at = step(found, text, at)
        if at < 0:
            return None
    _complete(found)
    return found, text[at:]


@lru_cache(maxsize=256)
def _steps(layout: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    at = 0
    while at < len(layout):
        char = layout[at]
        at += 1
        if char in SPACE:
            steps.append(_space)
        elif char != "%":
            steps.append(_exactly(char))
        else:
            while at < len(layout) and layout[at] in "-_0^#":
                at += 1
            while at < len(layout) and layout[at] in "EO":
                at += 1
            steps.extend(_conversion(layout[at : at + 1]))
            at += 1
    return tuple(steps)


def _conversion(letter: str) -> tuple[_Step, ...]:
    if letter in _COMPOSED:
        return _steps(_COMPOSED[letter])
    step = _CONVERSIONS.get(letter)
    return (_unknown if step is None else step,)


def _unknown(_: Parsed, __: str, ___: int) -> int:
    return -1


def _space(_: Parsed, text: str, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _exactly(char: str) -> _Step:
    return lambda _, text, at: at + 1 if text.startswith(char, at) else -1


def _number(
    low: int, high: int, digits: int, store: Callable[[Parsed, int], None], *has: str
) -> _Step:
    known = frozenset(has)

    def step(found: Parsed, text: str, at: int) -> int:
        while at < len(text) and text[at] == " ":
            at += 1
        begin, value = at, 0
        while at < len(text) and at - begin < digits and text[at] in "0123456789":
            if at > begin and value * 10 > high:
                break
            value = value * 10 + int(text[at])
            at += 1
        if at == begin or not low <= value <= high:
            return -1
        store(found, value)
        found.has |= known
        return at

    return step


def _name(names: tuple[str, ...], store: Callable[[Parsed, int], None], *has: str) -> _Step:
    known = frozenset(has)

    def step(found: Parsed, text: str, at: int) -> int:
        lowered = text[at : at + 9].lower()
        for number, name in enumerate(names):
            length = len(name) if lowered.startswith(name) else 3
            if lowered[:length] == name[:length] and len(lowered) >= length:
                store(found, number)
                found.has |= known
                return at + length
        return -1

    return step


def _set(field: str) -> Callable[[Parsed, int], None]:
    return lambda found, value: setattr(found, field, value)


def _set_less_one(field: str) -> Callable[[Parsed, int], None]:
    return lambda found, value: setattr(found, field, value - 1)


def _set_hour(found: Parsed, value: int) -> None:
    found.hour, found.half_day = value, False


def _set_half_hour(found: Parsed, value: int) -> None:
    found.hour, found.half_day = value % 12, True


def _set_year(found: Parsed, value: int) -> None:
    found.year, found.short_year = value, False


def _set_short_year(found: Parsed, value: int) -> None:
    found.year, found.short_year = value + (1900 if value >= 69 else 2000), True


def _set_week(begins: int) -> Callable[[Parsed, int], None]:
    def store(found: Parsed, value: int) -> None:
        found.week, found.week_begins = value, begins

    return store


def _half(found: Parsed, text: str, at: int) -> int:
    half = text[at : at + 2].lower()
    if half not in {"am", "pm"}:
        return -1
    found.afternoon = half == "pm"
    return at + 2


def _zone(_: Parsed, text: str, at: int) -> int:
    found = _ZONE.match(text, at)
    return found.end() if found else -1


def _offset(_: Parsed, text: str, at: int) -> int:
    found = _OFFSET.match(text, at)
    if found is None or int(found[2] or 0) > 59:
        return -1
    return found.end()


def _iso_year(_: Parsed, text: str, at: int) -> int:
    begin = at
    while at < len(text) and text[at] in "0123456789":
        at += 1
    return at if at > begin else -1


def _epoch(found: Parsed, text: str, at: int) -> int:
    end = _iso_year(found, text, at)
    if end < 0:
        return -1
    try:
        local = time.localtime(int(text[at:end]))
    except (OverflowError, OSError, ValueError):
        return -1
    found.year, found.month, found.day = local.tm_year, local.tm_mon - 1, local.tm_mday
    found.hour, found.minute, found.second = local.tm_hour, local.tm_min, local.tm_sec
    found.weekday, found.yearday = (local.tm_wday + 1) % 7, local.tm_yday - 1
    return end


def _ignore(_: Parsed, __: int) -> None:
    return None


_weekday_name = _name(WEEKDAYS, _set("weekday"), "weekday")
_month_name = _name(MONTHS, _set("month"), "month", "date")
_day = _number(1, 31, 2, _set("day"), "day", "date")
_hour = _number(0, 23, 2, _set_hour)
_half_hour = _number(1, 12, 2, _set_half_hour)

_CONVERSIONS: dict[str, _Step] = {
    "%": _exactly("%"),
    "n": _space,
    "t": _space,
    "a": _weekday_name,
    "A": _weekday_name,
    "b": _month_name,
    "B": _month_name,
    "h": _month_name,
    "C": _number(0, 99, 2, _set("century"), "date"),
    "d": _day,
    "e": _day,
    "H": _hour,
    "k": _hour,
    "I": _half_hour,
    "l": _half_hour,
    "j": _number(1, 366, 3, _set_less_one("yearday"), "yearday"),
    "m": _number(1, 12, 2, _set_less_one("month"), "month", "date"),
    "M": _number(0, 59, 2, _set("minute")),
    "p": _half,
    "s": _epoch,
    "S": _number(0, 61, 2, _set("second")),
    "u": _number(1, 7, 1, lambda found, value: setattr(found, "weekday", value % 7), "weekday"),
    "w": _number(0, 6, 1, _set("weekday"), "weekday"),
    "g": _number(0, 99, 2, _ignore),
    "G": _iso_year,
    "U": _number(0, 53, 2, _set_week(0)),
    "W": _number(0, 53, 2, _set_week(1)),
    "V": _number(0, 53, 2, _ignore),
    "y": _number(0, 99, 2, _set_short_year, "date"),
    "Y": _number(0, 9999, 4, _set_year, "date"),
    "Z": _zone,
    "z": _offset,
}


def _complete(found: Parsed) -> None:
    """Fill in what follows from what was read."""
    has = found.has
    if found.half_day and found.afternoon:
        found.hour += 12
    if found.century is not None:
        found.year = found.century * 100 + (found.year % 100 if found.short_year else 0)
    if "date" in has:
        if "weekday" not in has:
            if "yearday" in has and not {"month", "day"} <= has:
                _date_of_yearday(found, has)
                has |= {"month", "day"}
            found.weekday = weekday_of(found.year, found.month, found.day)
        if "yearday" not in has:
            found.yearday = _yearday(found.year, found.month) + found.day - 1
    if found.week is not None and "weekday" in has:
        begins = found.week_begins
        first = weekday_of(found.year, 0, 1)
        if "yearday" not in has:
            found.yearday = (
                (7 - (first - begins)) % 7 + (found.week - 1) * 7 + (found.weekday - begins + 7) % 7
            )
        if not {"month", "day"} <= has:
            _date_of_yearday(found, has)


def _date_of_yearday(found: Parsed, has: frozenset[str]) -> None:
    month = 0
    while month < 12 and _yearday(found.year, month) <= found.yearday:
        month += 1
    month = max(month, 1)
    if "month" not in has:
        found.month = month - 1
    if "day" not in has:
        found.day = found.yearday - _yearday(found.year, month - 1) + 1


def _yearday(year: int, month: int) -> int:
    return _YEARDAYS[month] + (month > 1 and is_leap(year))


def is_leap(year: int) -> bool:
    """Return whether a year has a 29th of February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_before(year: int, month: int) -> int:
    """Return the days from 1970-01-01 to the first of a month, counted from 0, of any year."""
    year += month // 12
    month %= 12
    before = year - 1
    leaps = before // 4 - before // 100 + before // 400
    return 365 * year + leaps + _yearday(year, month) - 719_162 - 365


def weekday_of(year: int, month: int, day: int) -> int:
    """Return the day of the week, Sunday as 0, of a date whose month counts from 0."""
    return (days_before(year, month) + day - 1 + 4) % 7
