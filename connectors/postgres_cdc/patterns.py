"""`Patterns`: the regular expressions that read whole rows of a table, one per set of NULL columns.

A value in text format holds no zero byte, and its length begins with two where it is below 64 KiB. So
`t` and two zero bytes begin a value and stand nowhere else: a row with a value in each column can be
read in one way only. With NULL columns, an `n` each, that is not so: the `n` may be the last letter of
the value before it. That value's length tells which, and is compared. Measured on six columns of 200 B
together: 0.7 us a row, where a generated loop that goes from length to length takes 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connectors.postgres_cdc.types import Kind

ENOUGH = 500
"""Rows with the same columns NULL before a pattern is made of it: that takes as long as some hundred."""

MOST = 16
"""Patterns of a table: rows of a wide one may be NULL in any combination."""

TRIED = 2000
"""Rows after which it is looked at how many were matched: where it is less than half, it costs more than
it gains, and it rests."""

RESTS = 20_000
"""Rows without patterns, until they are tried again."""

_BEGINS = rb"t\0\0.."
_VALUES: dict[Kind, bytes] = {
    "float": rb"([^\0]*[0-9])",  # others are no JSON numbers
    "timestamp": rb"([^\0]{10}) ([^\0]*[0-9])",  # others are no common ones
    "timestamptz": rb"([^\0]{10}) ([^\0]*)\+00",
}
_ANY = rb"([^\0]*)"

Match = Callable[[bytes, int], "re.Match[bytes] | None"]

Compared = tuple[int, int, int]
"""The first and the last group of a value, and how many bytes follow that are in none."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What the rows to come are likely to be."""

    match: Match
    """(message, where the row begins) → its values as groups, a timestamp two, a NULL one empty."""
    compared: Sequence[Compared]
    """Values whose lengths must be compared: NULL columns follow them."""
    template: bytes
    """What the values are put into."""


def fits(message: bytes, found: re.Match[bytes], compared: Sequence[Compared]) -> bool:
    """Return whether these values are as long as the message says."""
    for first, last, more in compared:
        start = found.start(first)
        length = found.end(last) + more - start
        if message[start - 2] << 8 | message[start - 1] != length:
            return False
    return True


def _never(_message: bytes, _at: int) -> None:
    """Match nothing: there is no pattern yet."""


class Patterns:
    """The patterns of one table's rows, made of what comes often. One thread."""

    def __init__(self, kinds: Sequence[Kind], never: int, template: Callable[[int], bytes]) -> None:
        """`kinds`: what the columns hold. `never`: no pattern is made where one of these is NULL.

        Of NULL columns tell masks: `1 << i` stands for column i. `template`: (mask) → see `Usual`.
        """
        self._kinds = kinds
        self._never = never
        self._template = template
        self._met: dict[int, int] = {}
        self._made: dict[int, Usual] = {}
        self._usual = Usual(_never, (), b"")
        self._rows = self._missed = 0
        """Since the last look at whether it pays."""
        self._resting = 0
        """Rows for which no pattern is tried."""

    def begin(self, rows: int) -> Usual | None:
        """Return what to compare the next rows with; None: with nothing, hardly any would match."""
        if self._rows >= TRIED:
            if self._missed > self._rows / 2:
                self._resting = RESTS
            self._rows = self._missed = 0
        if self._resting > 0:
            self._resting -= rows
            return None
        self._rows += rows
        return self._usual

    def met(self, mask: int) -> Usual:
        """Take note of a row that was not matched; return what to compare the next one with.

        A mask that says more than what is NULL is that of a row that no pattern matches.
        """
        self._missed += 1
        made = self._made.get(mask)
        if made is None:
            if mask >> len(self._kinds) or mask & self._never or len(self._made) >= MOST:
                return self._usual
            times = self._met[mask] = self._met.get(mask, 0) + 1
            if times < ENOUGH:
                if len(self._met) > 100 * MOST:
                    self._met.clear()
                return self._usual
            made = self._made[mask] = self._make(mask)
        self._usual = made
        return made

    def _make(self, mask: int) -> Usual:
        pattern = b"N" + re.escape(len(self._kinds).to_bytes(2, "big"))
        compared: list[Compared] = []
        groups = 0
        before: Compared | None = None
        for index, kind in enumerate(self._kinds):
            value = _VALUES.get(kind, _ANY)
            first, groups = groups + 1, groups + value.count(b"(")
            if mask >> index & 1:
                pattern += b"n" + b"()" * value.count(b"(")
                if before is not None:
                    compared.append(before)
                before = None
            else:
                pattern += _BEGINS + value
                before = first, groups, len("+00") if kind == "timestamptz" else 0
        match = re.compile(pattern + rb"\Z", re.DOTALL).match
        return Usual(match, compared, self._template(mask))
