"""Every type's values arrive without loss: what the server reads back from them is what it had."""

from __future__ import annotations

import base64
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres_cdc.types import array_text, quote
from tests.connectors.postgres_cdc.cdc import Flow, execute, fetch, on_both_versions

CASES = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "0"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "real": ["1.1", "-0", "1e+30", "NaN", "Infinity", "-Infinity"],
    "double precision": ["0.1", "1e-300", "123456789012345680", "NaN", "-Infinity"],
    "numeric": ["0.000000000000000000001", "9.90", "-1e40", "NaN", "Infinity", "-Infinity"],
    "boolean": ["true", "false"],
    "text": ['say "hi"\\', "tab\tline\nend", "é 漢 😀", "", "\x01\x7f", "NULL", "\\N", "%d%%"],
    "varchar(20)": ["a b "],
    "char(5)": ["ab"],
    "bytea": ["\\x00ff5c", "\\x"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "date": ["2026-02-28", "infinity", "-infinity", "0044-03-15 BC", "12026-01-01"],
    "time": ["24:00:00", "12:34:56.789"],
    "timetz": ["24:00:00+02"],
    "timestamp": [
        "2026-01-31 12:00:00.5",
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00 BC",
        "12026-01-01 00:00:00",
    ],
    "timestamptz": [
        "2026-01-31 12:00:00.000001+02",
        "infinity",
        "0044-03-15 12:00:00+00 BC",
        "12026-01-01 00:00:00+00",
    ],
    "interval": ["1 year -2 months 3 days 04:05:06.789", "-00:00:01"],
    "money": ["$1,234.56"],
    "inet": ["10.0.0.1/8", "::1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(4)": ["1010"],
    "point": ["(1.5,2)"],
    "int4range": ["[1,5)", "empty", "(,3)"],
    "nummultirange": ["{[1,2),[3,4.5]}"],
    "tsvector": ["'a':1 'b':2"],
    "oid": ["4294967295"],
    "integer[]": ["{1,NULL,3}", "{}", "{{1,2},{3,4}}", "[0:1]={7,8}", "[1:1][-2:-1]={{1,2}}"],
    "text[]": ['{a,"b c","d\\"e","f\\\\g",NULL,"NULL","","{x}","é,;"}', '{{a,"}"},{",",b}}'],
    "numeric[]": ["{1.50,NaN}"],
    "boolean[]": ["{t,f}"],
    "timestamptz[]": ['{"2026-01-31 12:00:00+00",infinity}'],
    "jsonb[]": ['{"{\\"a\\": [1, \\"x\\"]}","7"}'],
    "bytea[]": ['{"\\\\x00ff"}'],
    "box[]": ["{(1,1),(0,0);(2,2),(1,1)}"],
    "mood": ['it\'s, "ok"'],
    "mood[]": ['{sad,"it\'s, \\"ok\\""}'],
    "positive": ["12345678901"],
    "positives": ["{1,2}"],
    "positive[]": ["{5,6}"],
    "pair": ['(1,"a, b")', "(,)"],
    "pair[]": ['{"(1,\\"x y\\")"}'],
}
SETUP = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s, \"ok\"')",
    "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)",
    "CREATE DOMAIN positives AS positive[]",
    "CREATE TYPE pair AS (a int, b text)",
)


def back(value, type_name):
    """Return the text that gives the server its value back."""
    if value is None:
        return "NULL"
    if type_name.endswith("[]") and isinstance(value, list):
        if not value:
            return "{}"
        parts = []
        for one in value:
            text = back(one, type_name if isinstance(one, list) else type_name[:-2])
            plain = one is None or isinstance(one, list)
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(text if plain else f'"{escaped}"')
        return "{" + (";" if type_name.startswith("box") else ",").join(parts) + "}"
    if type_name == "bytea":
        return "\\x" + base64.b64decode(value).hex()
    if type_name == "jsonb":
        return json.dumps(value)
    if isinstance(value, list):
        return "{" + ",".join(map(str, value)) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


@on_both_versions
@pytest.mark.postgres
def test_the_server_reads_back_what_it_had_from_copy_and_stream_alike(database):
    columns = [(f"c{number}", name) for number, name in enumerate(CASES)]
    listed = ", ".join(f'"{column}" {name}' for column, name in columns)
    execute(database, *SETUP, f"CREATE TABLE t (id int PRIMARY KEY, {listed})")
    rows = max(map(len, CASES.values()))

    def insert(first):
        for row in range(rows):
            values = [
                "NULL" if row >= len(texts) else "'" + texts[row].replace("'", "''") + "'"
                for texts in CASES.values()
            ]
            execute(database, f"INSERT INTO t VALUES ({first + row}, {', '.join(values)})")

    insert(0)
    flow = Flow(database, filter={"operations": ["INSERT"]})
    with flow.open() as reading:
        copied = reading.take(rows)
        insert(100)
        streamed = reading.take(rows)
    for event, again in zip(copied, streamed, strict=True):
        for column, name in columns:
            value = event.data[column]
            assert again.data[column] == value, (name, value)
            if name == "timestamptz[]" and value:
                assert value == ["2026-01-31T12:00:00Z", "infinity"]
            if value is None:
                continue
            ((same, had),) = fetch(
                database,
                f"SELECT to_jsonb({column}::text) = to_jsonb(%s::{name}::text), {column}::text "
                "FROM t WHERE id = %s",
                back(value, name),
                event.data["id"],
            )
            assert same, f"{name}: {value!r} was {had!r}"


@on_both_versions
@pytest.mark.postgres
def test_values_have_the_json_types_that_the_documentation_names(database):
    execute(
        database,
        "CREATE TABLE t (id bigint PRIMARY KEY, f float8, n numeric, b bool, j json, jb jsonb, "
        "ts timestamp, tz timestamptz, y bytea, iv interval, a int[], s int[])",
        "INSERT INTO t VALUES (9007199254740993, 1.5, 9.90, true, "
        '\'{"a": 1.10,\n "a": 2}\', \'{"n": 12345678901234567890.12345678901234567890}\', '
        "'2026-01-31 12:00:00', '2026-01-31 12:00:00+02', 'hi', '1 day', "
        "'{{1,NULL},{2,3}}', '[0:0]={1}')",
    )
    with Flow(database).open() as reading:
        batch = reading.batch()
    raw = batch.column("raw")[0]
    # JSON is embedded digit by digit, on one line.
    assert b"\n" not in raw
    assert b'"n": 12345678901234567890.12345678901234567890' in raw
    found = json.loads(raw, parse_float=Decimal)
    assert found == {
        "id": 9007199254740993,
        "f": Decimal("1.5"),
        "n": "9.90",
        "b": True,
        "j": {"a": 2},
        "jb": {"n": Decimal("12345678901234567890.12345678901234567890")},
        "ts": "2026-01-31T12:00:00",
        "tz": "2026-01-31T10:00:00Z",
        "y": "aGk=",
        "iv": "P1D",
        "a": [[1, None], [2, 3]],
        "s": "[0:0]={1}",
    }


@pytest.mark.postgres
def test_json_that_no_parser_takes_becomes_text_and_json_null_is_not_sql_null(database):
    execute(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, j json, k jsonb)",
        r"""INSERT INTO t VALUES (1, '"\ud800"', 'null'), (2, '"\u00e9"', NULL)""",
    )
    with Flow(database).open() as reading:
        batch = reading.batch()
        first, second = batch.column("data")
    assert first["j"] == r'"\ud800"'
    assert second["j"] == "é"
    # Both decode to None; the operator sees `null` either way, as JSON has one null.
    assert batch.column("raw")[1].endswith(b'"k":null}')


@pytest.mark.postgres
def test_text_that_is_not_utf8_fails_its_own_row_and_no_other(postgres):
    name = "test_ascii_bytes"
    execute(
        postgres.dsn(),
        f"CREATE DATABASE {name} ENCODING SQL_ASCII TEMPLATE template0",
    )
    dsn = postgres.dsn(name)
    try:
        execute(
            dsn,
            "CREATE TABLE t (id int PRIMARY KEY, v text)",
            r"INSERT INTO t VALUES (1, 'ok'), (2, E'\xff'), (3, E'\xc3\xa9')",
        )
        flow = Flow(dsn, slot_name="ascii_bytes", snapshot="only")
        with flow.open() as reading:
            batch = reading.batch()
            data = batch.column("data")
        assert [data[0], data[2]] == [{"id": 1, "v": "ok"}, {"id": 3, "v": "é"}]
        assert list(batch.errors) == [1]
        assert batch.errors[1].code == "row_undecodable"
    finally:
        execute(postgres.dsn(), f"DROP DATABASE {name} WITH (FORCE)")


nested = st.recursive(
    st.lists(st.none() | st.text(max_size=8), min_size=1, max_size=3),
    lambda inner: inner.flatmap(lambda one: st.lists(st.just(one), min_size=1, max_size=3)),
    max_leaves=4,
)


def array_literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "{" + ",".join(map(array_literal, value)) + "}"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(nested)
def test_an_array_of_any_text_and_depth_is_the_json_array_of_it(value):
    text = array_literal(value).encode(errors="surrogatepass")
    if b"\xed" in text:  # half a surrogate pair is not text to a server
        return
    assert json.loads(array_text(text, quote)) == value
