"""Dates and times."""

from __future__ import annotations

import time

import pytest

from tests.transforms.jq.builtin_calls import Fails, Row, check, name_of
from transforms.jq.builtins import FUNCTIONS

ISO = "%Y-%m-%dT%H:%M:%SZ"
SPRING = [2015, 2, 5, 23, 51, 47, 4, 63]

ROWS: list[Row] = [
    ("gmtime", 1425599507, [], SPRING),
    ("gmtime", 0, [], [1970, 0, 1, 0, 0, 0, 4, 0]),
    ("gmtime", 1425599507.25, [], [2015, 2, 5, 23, 51, 47.25, 4, 63]),
    ("gmtime", -1.5, [], [1969, 11, 31, 23, 59, 59.5, 3, 364]),
    ("gmtime", -62135596800, [], [1, 0, 1, 0, 0, 0, 1, 0]),
    ("gmtime", 951782400, [], [2000, 1, 29, 0, 0, 0, 2, 59]),
    ("gmtime", "a", [], Fails("gmtime() requires numeric inputs")),
    (
        "gmtime",
        1e18,
        [],
        Fails("error converting number of seconds since epoch to datetime"),
    ),
    ("mktime", SPRING, [], 1425599507),
    ("mktime", [2024, 1], [], 1706659200),
    ("mktime", [2015, 14, 35, 25, 61, 61], [], 1459821721),
    ("mktime", [2024, 1, 29.9, 1.9], [], 1709168400),
    ("mktime", "a", [], Fails("mktime requires array inputs")),
    ("mktime", [2024, "a"], [], Fails("mktime requires parsed datetime inputs")),
    ("mktime", [1969, 11, 31, 23, 59, 59], [], Fails("invalid gmtime representation")),
    ("strftime", 1425599507, [ISO], "2015-03-05T23:51:47Z"),
    ("strftime", SPRING, ["%A, %B %d, %Y"], "Thursday, March 05, 2015"),
    ("strftime", SPRING, ["%j %U %w %u %y %e|%H %I %p %M %S"], "064 09 4 4 15  5|23 11 PM 51 47"),
    ("strftime", [2024, 13, 35], ["%F"], "2025-03-07"),
    ("strftime", SPRING, ["é%%Y日"], "é%Y日"),
    ("strftime", SPRING, ["%Z %z"], "GMT +0000"),
    ("strftime", SPRING, [""], ""),
    ("strftime", "a", ["%Y"], Fails("strftime/1 requires parsed datetime inputs")),
    ("strftime", ["a"], ["%Y"], Fails("strftime/1 requires parsed datetime inputs")),
    ("strftime", 0, [1], Fails("strftime/1 requires a string format")),
    ("strptime", "2015-03-05T23:51:47Z", [ISO], SPRING),
    ("strptime", "2015-3-5T3:1:7Z", [ISO], [2015, 2, 5, 3, 1, 7, 4, 63]),
    ("strptime", "2015-02-31T23:59:60Z", [ISO], [2015, 1, 31, 23, 59, 60, 2, 61]),
    (
        "strptime",
        "Thu, 05 Mar 2015 23:51:47 +0100",
        ["%a, %d %b %Y %H:%M:%S %z"],
        SPRING,
    ),
    ("strptime", "10:20 PM", ["%I:%M %p"], [1900, 0, 0, 22, 20, 0, 8, 367]),
    ("strptime", "12/25/68 23:11", ["%D %R"], [2068, 11, 25, 23, 11, 0, 2, 359]),
    ("strptime", "12/25/69 23:11", ["%D %R"], [1969, 11, 25, 23, 11, 0, 4, 358]),
    ("strptime", "2015 100", ["%Y %j"], [2015, 3, 10, 0, 0, 0, 5, 99]),
    ("strptime", "2015 12 3", ["%Y %U %w"], [2015, 2, 25, 0, 0, 0, 3, 83]),
    ("strptime", "20 15", ["%C %y"], [2015, 0, 0, 0, 0, 0, 3, -1]),
    ("strptime", "MAYDAY", ["%bday"], Fails('date "MAYDAY" does not match format "%bday"')),
    ("strptime", "MAYday", ["%bday"], [1900, 4, 0, 0, 0, 0, 1, 119]),
    ("strptime", "2015 rest", ["%Y"], [2015, 0, 0, 0, 0, 0, 3, -1, " rest"]),
    ("strptime", "2015x", ["%Y"], Fails('date "2015x" does not match format "%Y"')),
    ("strptime", "25", ["%H"], Fails('date "25" does not match format "%H"')),
    ("strptime", "x", ["%Q"], Fails('date "x" does not match format "%Q"')),
    ("strptime", 1, ["%Y"], Fails("strptime/1 requires string inputs and arguments")),
    ("fromdate", "2015-03-05T23:51:47Z", [], 1425599507),
    (
        "fromdateiso8601",
        "2015-03-05T23:51:47",
        [],
        Fails(f'date "2015-03-05T23:51:47" does not match format "{ISO}"'),
    ),
    ("todate", 1425599507.9, [], "2015-03-05T23:51:47Z"),
    ("todateiso8601", -1, [], "1969-12-31T23:59:59Z"),
    ("date", SPRING, [], "2015-03-05T23:51:47Z"),
    ("dateadd", 5, ["seconds", 10], 15),
    ("datesub", 15, ["seconds", 10], 5),
]


@pytest.mark.parametrize("row", ROWS, ids=map(name_of, ROWS))
def test_dates(row):
    check(row)


def test_dates_of_four_thousand_years_come_back_from_their_seconds():
    gmtime, mktime = FUNCTIONS["gmtime", 0].call, FUNCTIONS["mktime", 0].call
    todate, fromdate = FUNCTIONS["todate", 0].call, FUNCTIONS["fromdate", 0].call
    for seconds in range(-30_000_000_000, 100_000_000_000, 98_765_432):
        assert mktime(gmtime(seconds)) == seconds
        parsed = FUNCTIONS["strptime", 1].call(todate(seconds).rjust(20, "0"), ISO)
        assert parsed == gmtime(seconds)
        assert fromdate(todate(seconds).rjust(20, "0")) == seconds


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_local_time_is_that_of_the_machine(berlin):
    assert FUNCTIONS["localtime", 0].call(1425599507.5) == [2015, 2, 6, 0, 51, 47.5, 5, 64]
    written = FUNCTIONS["strflocaltime", 1].call
    assert written(1425599507, "%F %T %Z %z") == "2015-03-06 00:51:47 CET +0100"
    assert written([2024, 6, 32, 1], "%F %T %Z") == "2024-08-01 01:00:00 CEST"
    assert FUNCTIONS["strftime", 1].call(1425599507, "%F %T %Z") == "2015-03-05 23:51:47 GMT"


def test_what_asks_the_clock_or_the_machine_is_not_worked_out_in_advance():
    assert not any(
        FUNCTIONS[key].pure for key in (("now", 0), ("localtime", 0), ("strflocaltime", 1))
    )
    assert abs(FUNCTIONS["now", 0].call(None) - time.time()) < 3600
