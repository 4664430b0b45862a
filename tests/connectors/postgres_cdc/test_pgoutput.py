"""The protocol's messages, byte by byte, and rows of any content through the generated code."""

from __future__ import annotations

import json
import struct
from datetime import datetime, timezone
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import Batch
from connectors.postgres_cdc import patterns, pgoutput
from connectors.postgres_cdc.assemble import Assembler
from connectors.postgres_cdc.columns import Columns, Shape, rfc3339
from connectors.postgres_cdc.patterns import Patterns
from connectors.postgres_cdc.pgoutput import ABSENT, HEADER, RowChange
from connectors.postgres_cdc.position import StreamPosition
from connectors.postgres_cdc.row_source import RowColumn
from connectors.postgres_cdc.rows import RowCodec
from connectors.postgres_cdc.runs import Interest
from connectors.postgres_cdc.types import TYPES_SQL, ColumnType, TypeCatalog

HEAD = b"w" + struct.pack(">QQq", 1, 2, 3)


def tuple_data(values):
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is ABSENT:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)


def change(kind, oid, *, old=None, new=None, mark=b"K"):
    body = kind + struct.pack(">I", oid)
    if old is not None:
        body += mark + tuple_data(old)
    if new is not None:
        body += b"N" + tuple_data(new)
    return HEAD + body


def begin(lsn, time=0, xid=7):
    return HEAD + b"B" + struct.pack(">QqI", lsn, time, xid)


def commit(lsn, end):
    return HEAD + b"C" + struct.pack(">BQQq", 0, lsn, end, 0)


def relation(oid, table, columns, identity=b"d"):
    body = b"R" + struct.pack(">I", oid) + b"public\0" + table.encode() + b"\0" + identity
    body += struct.pack(">H", len(columns))
    for name, type_oid, key in columns:
        body += bytes([key]) + name.encode() + b"\0" + struct.pack(">Ii", type_oid, -1)
    return HEAD + body


def keepalive(wal_end, reply=0):
    return b"k" + struct.pack(">QqB", wal_end, 0, reply)


def test_each_message_is_read_as_the_manual_describes_it():
    assert pgoutput.decode_begin(begin(5, 1_500_000, 9)) == pgoutput.Begin(5, 946684801.5, 9)
    assert pgoutput.decode_commit(commit(5, 8)) == pgoutput.Commit(5, 8, 946684800.0)
    assert pgoutput.decode_keepalive(keepalive(77, 1)) == pgoutput.Keepalive(77, 946684800.0, True)
    found = pgoutput.decode_relation(relation(3, "täble", [("id", 23, 1), ("v", 25, 0)], b"i"))
    assert (found.oid, found.schema, found.table, found.identity) == (3, "public", "täble", "i")
    assert [(one.name, one.type_oid, one.identity) for one in found.columns] == [
        ("id", 23, True),
        ("v", 25, False),
    ]
    truncate = HEAD + b"T" + struct.pack(">IBII", 2, 3, 10, 11)
    assert pgoutput.decode_truncate(truncate) == pgoutput.Truncate((10, 11), True, True)
    status = pgoutput.encode_status(10, 5, 946684801.0, reply=True)
    assert struct.unpack(">cQQQqB", status) == (b"r", 10, 10, 10, 1_000_000, 1)


values = st.lists(st.none() | st.just(ABSENT) | st.binary(max_size=300), min_size=1, max_size=5)


@given(values, values, st.sampled_from([b"K", b"O"]))
def test_a_change_is_read_as_it_was_written(old, new, mark):
    written = change(b"U", 1, old=old, new=new, mark=mark)
    assert pgoutput.decode_row_change(written) == RowChange(old, new, mark == b"K")
    assert pgoutput.relation_oid(written) == 1


@given(values, st.data())
def test_a_message_that_is_cut_short_is_an_error_and_not_a_row(new, data):
    whole = change(b"I", 1, new=new)
    cut = data.draw(st.integers(HEADER + 5, len(whole) - 1))
    with pytest.raises((pgoutput.ProtocolError, IndexError)):
        pgoutput.decode_row_change(whole[:cut])


KINDS = {
    "integer": st.integers(-(2**63), 2**63 - 1).map(lambda n: str(n).encode()),
    "float": st.sampled_from([b"1.5", b"-0", b"NaN", b"Infinity", b"-Infinity", b"1e-300"]),
    "plain": st.sampled_from([b"1.50", b"NaN", b"infinity"]),
    "bool": st.sampled_from([b"t", b"f"]),
    "json": st.sampled_from([b'{"a": [1, null]}', b"1\n", b'"\\ud800"', b"null"]),
    "timestamp": st.sampled_from([b"2026-01-31 12:00:00", b"infinity", b"0044-01-01 00:00:00 BC"]),
    "timestamptz": st.sampled_from([b"2026-01-31 12:00:00.5+00", b"-infinity"]),
    "bytea": st.binary(max_size=5).map(lambda one: b"\\x" + one.hex().encode()),
    "text": st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300
    ).map(str.encode),
}
columns = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.booleans(), st.booleans()), min_size=1, max_size=6
)


def copy_line(row):
    def field(value):
        if value is None:
            return b"\\N"
        for plain, escaped in (
            (b"\\", b"\\\\"),
            (b"\t", b"\\t"),
            (b"\n", b"\\n"),
            (b"\r", b"\\r"),
        ):
            value = value.replace(plain, escaped)
        return value

    return b"\t".join(map(field, row)) + b"\n"


@given(columns, st.data())
def test_the_generated_code_says_what_the_plain_code_says(shape, data):
    codec = RowCodec(
        "s",
        "t",
        [
            RowColumn(f'c{n} "%b"', ColumnType(0, "", kind), key=key, shown=shown)
            for n, (kind, key, shown) in enumerate(shape)
        ],
    )
    rows = data.draw(
        st.lists(st.tuples(*(st.none() | KINDS[kind] for kind, _, _ in shape)), max_size=4)
    )
    expected = [codec.encode(row) for row in rows]
    messages = [change(b"I", 1, new=row) for row in rows]

    def unexpected(message):
        raise AssertionError(message)

    def slow(line):
        return codec.encode(codec.split_line(line))

    assert codec.encode_messages(messages, unexpected, []) == expected
    assert codec.encode_lines([copy_line(row) for row in rows], slow) == expected
    keys = codec.message_keys(
        messages, lambda message: codec.key_of(pgoutput.decode_row_change(message).new)
    )
    assert keys == [codec.key_of(row) for row in rows]
    for text in expected:
        json.loads(text)
    assert [codec.split_line(copy_line(row)) for row in rows] == [list(row) for row in rows]


# Letters that stand for a value, NULL and an unchanged value in the protocol, too.
texts = st.text('ntu"é', max_size=4).map(str.encode) | st.sampled_from(
    [b"n" * 252, b"t" * 0x74, b"nt" * 0x3A00, b"n" * 0x10000]
)
shapes = st.lists(
    st.tuples(st.sampled_from(["integer", "timestamp", "plain", "text"]), st.booleans()),
    min_size=1,
    max_size=4,
)


@given(shapes, st.data())
def test_a_pattern_made_of_other_rows_reads_a_row_as_it_is(shape, data):
    """Each row that is NULL elsewhere than the one before is compared with the pattern of that one."""
    kinds = {**KINDS, "text": texts, "plain": texts.filter(lambda text: b'"' not in text)}
    columns = [
        RowColumn(f"c{n}", ColumnType(0, "", kind), key=key) for n, (kind, key) in enumerate(shape)
    ]
    codec = RowCodec("s", "t", columns)
    drawn = st.lists(
        st.tuples(*(st.none() | st.just(ABSENT) | kinds[kind] for kind, _ in shape)), max_size=12
    )
    rows = data.draw(drawn)
    messages = [change(b"I", 1, new=row) for row in rows]

    def slow(message):
        return codec.encode(pgoutput.decode_row_change(message).new)

    def slow_key(message):
        return codec.key_of(pgoutput.decode_row_change(message).new)

    for _ in range(2):
        keys = []
        with mock.patch.object(patterns, "ENOUGH", 1):
            found = codec.encode_messages(messages, slow, keys)
        assert found == [codec.encode(row) for row in rows]
        expected = [codec.key_of(row) for row in rows]
        assert codec.message_keys(messages, slow_key) == expected
        if None not in keys and len(keys) == len(rows):
            assert codec.keys_of(keys) == expected


@pytest.mark.parametrize(
    ("before", "row"),
    [
        ([b"a", None, b"b"], [b"an", b"v", None]),
        ([b"a", None, b"b", b"c"], [b"an", b"v", None, b"c"]),
        ([b"a", None, None, b"b"], [b"an", b"v", None, None]),
        ([b"a", None, b"b"], [b"n" * 300, b"v", None]),
        ([b"a", b"b", None], [b"a", None, b"v5n"]),
    ],
)
def test_the_last_letter_of_a_value_is_not_taken_for_a_null(before, row):
    columns = [RowColumn(f"c{n}", ColumnType(0, "", "text")) for n in range(len(row))]
    codec = RowCodec("s", "t", columns)

    def unexpected(message):
        raise AssertionError(message)

    with mock.patch.object(patterns, "ENOUGH", 1):
        messages = [change(b"I", 1, new=values) for values in (before, before, row)]
        found = codec.encode_messages(messages, unexpected, [])
    assert found[1:] == [codec.encode(before), codec.encode(row)]


def test_patterns_rest_where_most_rows_are_unlike_the_ones_before():
    made = Patterns(["text", "text"], 0, lambda mask: b"%d" % mask)
    one, other = change(b"I", 1, new=[b"a", b"b"]), change(b"I", 1, new=[None, b"b"])
    for message, mask in ((one, 0), (other, 1)):
        for _ in range(patterns.ENOUGH):
            usual = made.met(mask)
        assert usual.template == b"%d" % mask
        assert usual.match(message, HEADER + 5)
        assert not usual.match(other if message is one else one, HEADER + 5)
    assert made.begin(patterns.TRIED) is usual
    for mask in (0, 1) * patterns.TRIED:
        made.met(mask)
    assert made.begin(1) is None
    rested = 1
    while made.begin(1000) is None:
        rested += 1000
    assert abs(rested - patterns.RESTS) <= 1000


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("IIUD")), min_size=1, max_size=20))
def test_a_stream_resumed_anywhere_goes_on_with_the_very_next_change(script):
    """The same stream, cut into transactions; stop after any event, start again from its place."""
    messages = [relation(1, "t", [("id", 23, 1)]), relation(2, "other", [("id", 23, 1)])]
    lsn = 100
    for size, kind in script:
        messages.append(begin(lsn))
        for n in range(size):
            row = [str(n).encode()]
            oid = 1 + n % 2
            one = kind.encode()
            messages.append(change(one, oid, old=row) if kind == "D" else change(one, oid, new=row))
        messages += [commit(lsn, lsn + 8), keepalive(lsn + 50)]
        lsn += 100
    whole = places(read(messages, (0, 0)))
    for done, place in enumerate(whole, 1):
        assert places(read(messages, place)) == whole[done:]


def read(messages, skip, limit=3):
    assembler = Assembler(
        Interest({"public.t": None}, frozenset({"INSERT", "UPDATE", "DELETE"})),
        TypeCatalog([(23, "int4", 0, 0, ",")]),
        {},
        generation=1,
        skip=skip,
        start=0,
        read={},
    )
    found = []
    at = 0
    while at < len(messages):
        runs = []
        at = assembler.take(messages, at, limit, runs)
        assert sum(len(run.messages) for run in runs) <= limit
        found += runs
        for run in runs:
            assert (run.lsn, run.ordinals[-1]) <= assembler.place()
    assert not assembler.in_transaction
    return found


def places(runs):
    return [(run.lsn, ordinal) for run in runs for ordinal in run.ordinals]


def test_a_keepalive_inside_a_transaction_does_not_move_the_position():
    messages = [relation(1, "t", [("id", 23, 1)]), begin(100), keepalive(500)]
    assembler = Assembler(
        Interest({"public.t": None}, frozenset({"INSERT"})),
        TypeCatalog(),
        {},
        generation=1,
        skip=(50, 0),
        start=50,
        read={},
    )
    assembler.take(messages, 0, 10, [])
    assert assembler.place() == (100, 0)
    assembler.take([commit(100, 108), keepalive(500)], 0, 10, [])
    assert assembler.place() == (500, 0)


def test_types_are_asked_for_in_one_query():
    assert "pg_type" in TYPES_SQL


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_ids_and_sequences_are_what_history_makes_of_positions(sizes):
    messages, lsn = [relation(1, "t", [("id", 23, 1)])], 100
    for size in sizes:
        rows = [change(b"I", 1, new=[b"%d" % n]) for n in range(size)]
        messages += [begin(lsn), *rows, commit(lsn, lsn + 8)]
        lsn += 100
    runs = read(messages, (0, 0), 100)
    makers = Columns(Shape("slot", "db", False, False, lambda _: "t"), 1).of_stream
    live = Batch(sum(sizes), {}, after={}, makers=makers, state=runs)
    kept = {name: live.column(name) for name in ("partition", "position")}
    recorded = Batch(sum(sizes), kept, after={}, makers=makers)
    for name in ("id", "extensions.sequence"):
        assert live.column(name) == recorded.column(name)
    places = [(run.lsn, ordinal) for run in runs for ordinal in run.ordinals]
    assert kept["position"] == [StreamPosition(1, *place).text() for place in places]


@given(st.integers(0, 10**16))
def test_a_time_is_written_as_the_calendar_says(microseconds):
    seconds = pgoutput.unix_time(microseconds)
    expected = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")
    assert rfc3339(seconds) == expected.replace("+00:00", "Z")
