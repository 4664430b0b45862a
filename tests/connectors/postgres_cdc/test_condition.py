"""filter.condition decides as the server would."""

from __future__ import annotations

import psycopg
import pytest

from connectors.postgres_cdc.condition import Condition, ConditionError, typed
from connectors.postgres_cdc.pgoutput import ABSENT
from connectors.postgres_cdc.types import TypeCatalog
from tests.connectors.postgres_cdc.cdc import settings

COLUMNS = {
    "i": ("int8", 20),
    "n": ("numeric", 1700),
    "f": ("float8", 701),
    "b": ("boolean", 16),
    "s": ("text", 25),
    "d": ("date", 1082),
    "ts": ("timestamptz", 1184),
    "c": ("char(4)", 1042),
}
ROWS = [
    {
        "i": "1",
        "n": "1.50",
        "f": "0.5",
        "b": "t",
        "s": "abc",
        "d": "2026-01-31",
        "ts": "2026-01-31 12:00:00+00",
        "c": "ab",
    },
    {
        "i": "-7",
        "n": "NaN",
        "f": "NaN",
        "b": "f",
        "s": "A_c%",
        "d": "infinity",
        "ts": "infinity",
        "c": "abcd",
    },
    {"i": None, "n": None, "f": None, "b": None, "s": None, "d": None, "ts": None, "c": None},
    {
        "i": "9007199254740993",
        "n": "9007199254740993",
        "f": "-Infinity",
        "b": "t",
        "s": "",
        "d": "0044-03-15 BC",
        "ts": "2026-01-31 12:00:00.5+00",
        "c": "",
    },
]
CONDITIONS = [
    "NEW.i > 0",
    "NEW.i = 9007199254740992 OR NEW.n = 9007199254740993",
    "NEW.n >= 1.5",
    "NEW.n = 1.5 AND NEW.f < 1",
    "NEW.f > 100",
    "NEW.f IS DISTINCT FROM OLD.f",
    "NEW.b",
    "NOT NEW.b",
    "NEW.b IS NOT TRUE",
    "NEW.b IS FALSE OR NEW.i IS NULL",
    "NOT (NEW.b AND NEW.i > 0)",
    "NEW.s = 'abc' OR NEW.s = ''",
    "NEW.s <> 'abc'",
    "NEW.s LIKE 'a%'",
    "NEW.s NOT LIKE '_b_'",
    r"NEW.s LIKE 'A\_c\%'",
    "NEW.s ILIKE 'a_C%'",
    "lower(NEW.s) = 'a_c%' AND length(NEW.s) = 4",
    "NEW.i IN (1, 2, NULL)",
    "NEW.i NOT IN (1, 2)",
    "NEW.i NOT IN (1, NULL)",
    "NEW.i BETWEEN -10 AND 1",
    "NEW.i + 1 = 2 AND NEW.i * 2 - 1 = 1",
    "NEW.i / 2 = -3 OR NEW.i % 4 = -3",
    "abs(NEW.i) = 7",
    "-NEW.i = 7",
    "NEW.i::text || 'x' = '1x'",
    "coalesce(NEW.i, 5) = 5",
    "NEW.d > '2026-01-01'",
    "NEW.d < '2026-01-01'",
    "NEW.ts >= '2026-01-31T12:00:00Z'",
    "NEW.ts = '2026-01-31 13:00:00+01'",
    "NEW.c = 'ab'",
    "NEW.c = 'abcd' OR NEW.c = ''",
    "OLD.i IS NULL",
    "OLD.i < NEW.i",
    "OLD.s IS NOT DISTINCT FROM NEW.s",
    "NEW.i = '1'",
    'NEW."i" = 1',
    "new.I = 1",
    "(NEW.i > 0 OR NEW.i IS NULL) AND (NEW.b OR NEW.s IS NULL)",
    "NULL",
    "TRUE",
]


def row(values):
    catalog = TypeCatalog()
    found = {}
    for name, value in values.items():
        type_name, oid = COLUMNS[name]
        kind = catalog.resolve(oid).kind
        short = {"char(4)": "bpchar"}.get(type_name, type_name)
        padded = value.ljust(4) if short == "bpchar" and value is not None else value
        found[name] = None if padded is None else typed(kind, short, padded.encode())
    return found


@pytest.mark.postgres
def test_conditions_decide_as_the_server_does(database):
    columns = ", ".join(f"{name} {type_name}" for name, (type_name, _) in COLUMNS.items())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE t (k int, {columns})")
        for number, values in enumerate(ROWS):
            marks = ", ".join(["%s"] * (len(values) + 1))
            connection.execute(f"INSERT INTO t VALUES ({marks})", [number, *values.values()])
        for text in CONDITIONS:
            condition = Condition(text)
            found = connection.execute(
                f"SELECT old.k, new.k, ({text}) IS TRUE FROM t AS old, t AS new".encode()
            ).fetchall()
            for old, new, expected in found:
                held = condition.holds(row(ROWS[old]), row(ROWS[new]))
                assert held is expected, (text, ROWS[old], ROWS[new])


def test_a_row_that_is_not_there_is_all_null():
    condition = Condition("OLD.status IS DISTINCT FROM NEW.status")
    assert condition.holds(None, {"status": "a"})
    assert condition.holds({"status": "a"}, None)
    assert not condition.holds(None, {"status": None})


def test_what_the_server_did_not_send_keeps_the_change_unless_the_rest_decides():
    condition = Condition("OLD.a = 1 AND NEW.b = 2")
    assert condition.holds({"a": ABSENT}, {"b": 2})
    assert not condition.holds({"a": ABSENT}, {"b": 3})
    assert Condition("OLD.a = 1 OR NEW.b = 2").holds({"a": ABSENT}, {"b": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NEW.a =", "not SQL"),
        ("status = 1", "OLD.<column> or NEW.<column>"),
        ("NEW.a ~ 'x'", "can't be used"),
        ("NEW.a IN (SELECT 1)", "query can't be used"),
        ("NEW.a BETWEEN SYMMETRIC 2 AND 1", "symmetric can't be used"),
        ("NEW.a::numeric(3,1) = 1", "a cast to"),
        ("NEW.a::json = 'x'", "a cast to JSON"),
        ("NEW.a = 'open", "not SQL"),
    ],
)
def test_sql_that_is_not_understood_is_refused_when_the_flow_is_loaded(text, expected):
    with pytest.raises(ConditionError, match=expected):
        Condition(text)
    with pytest.raises(ValueError, match="condition"):
        settings("postgresql://h/test_d", filter={"condition": text})
