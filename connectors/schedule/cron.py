"""Cron expressions: five fields as in crontab(5), names, `@hourly` and its kin.

    minute 0-59 · hour 0-23 · day of month 1-31 · month 1-12, JAN-DEC · day of week 0-7, SUN-SAT

A field is `*`, a number, a range `a-b`, any of them with a step `/n`, or a list of those. As in
crontab(5), when day of month and day of week are both restricted, a day matches either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1
    )
}
_WEEKDAYS = {
    name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
}
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Cron:
    """The times that an expression matches, each field as the set of its values."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Days and weekdays are both restricted: a day that matches one of them matches."""


def parse_cron(expression: str) -> Cron:
    """Return the times of a cron expression. Raises ValueError with the field and what it takes."""
    text = _NICKNAMES.get(expression.strip().lower(), expression)
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            "five cron fields (minute, hour, day of month, month, day of week), such as "
            f'"0 * * * *", or one of {", ".join(sorted(_NICKNAMES))}; here are {len(fields)}'
        )
    minute, hour, day, month, weekday = fields
    cron = Cron(
        minutes=_MINUTE.values(minute),
        hours=_HOUR.values(hour),
        days=_DAY.values(day),
        months=_MONTH.values(month),
        weekdays=frozenset(number % 7 for number in _WEEKDAY.values(weekday)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
    )
    if not cron.either_day and min(cron.days) > max(_LONGEST_MONTH[m - 1] for m in cron.months):
        raise ValueError("a day of month that its months have; this one never comes")
    return cron


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)

    def values(self, text: str) -> frozenset[int]:
        found: set[int] = set()
        for part in text.split(","):
            span, slash, step_text = part.partition("/")
            first, dash, last = span.partition("-")
            if span == "*":
                start, end = self.low, self.high
            else:
                start = self._number(first, part)
                end = self._number(last, part) if dash else start
                if slash and not dash:
                    end = self.high
            if slash and not (_is_number(step_text) and int(step_text) > 0):
                raise self._refusal(part)
            if end < start:
                raise self._refusal(part)
            found.update(range(start, end + 1, int(step_text) if slash else 1))
        return frozenset(found)

    def _number(self, text: str, part: str) -> int:
        number = self.names.get(text.upper(), -1)
        if number < 0 and _is_number(text):
            number = int(text)
        if not self.low <= number <= self.high:
            raise self._refusal(part)
        return number

    def _refusal(self, part: str) -> ValueError:
        return ValueError(
            f"a {self.name} of {self.low}-{self.high}, a range or a step, where {part!r} stands"
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 2


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 7, _WEEKDAYS)
