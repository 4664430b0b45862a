"""Positions, what a snapshot has read, and where to start: the arithmetic, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import FatalError
from connectors.postgres_cdc.catalog import ServerFacts, SlotFacts
from connectors.postgres_cdc.plan import decide
from connectors.postgres_cdc.position import (
    SnapshotPosition,
    StreamPosition,
    format_lsn,
    parse_lsn,
    parse_position,
)
from connectors.postgres_cdc.progress import Doubt, Progress, Range, TableRanges, comparable, judge
from tests.connectors.postgres_cdc.cdc import settings

lsns = st.integers(0, 2**64 - 1)
ordinals = st.integers(0, 2**32 - 1)


@given(lsns)
def test_an_lsn_is_written_as_the_server_writes_it(lsn):
    assert parse_lsn(format_lsn(lsn)) == lsn


@given(lsns, ordinals, lsns, ordinals, st.sampled_from([1, 3, 41]))
def test_positions_sort_as_text_as_the_stream_is_ordered(lsn, ordinal, other, second, generation):
    one = StreamPosition(generation, lsn, ordinal, {"system": "7"})
    two = StreamPosition(generation, other, second)
    if one.place() != two.place():
        assert (one.text() < two.text()) is (one.place() < two.place())
    assert parse_position(one.text()) == one
    rows = SnapshotPosition(generation - 1, lsn, {"start": 5})
    assert rows.text() < one.text() < SnapshotPosition(generation + 1, 0, {"start": 5}).text()
    assert parse_position(rows.text()) == rows


@pytest.mark.parametrize(
    "text", ["", "7", "0001/zz/1", "0001/1", "0000/1/[]", "0000/1/{}", "x/y/z", "0001/1/1/{"]
)
def test_what_is_not_a_position_is_refused(text):
    with pytest.raises(FatalError) as raised:
        parse_position(text)
    assert raised.value.code == "position_unreadable"


def test_keys_compare_as_the_server_reads_them():
    assert comparable(["integer"], [b"9"]) < comparable(["integer"], [b"10"])
    assert comparable(["text"], [b"Z"]) < comparable(["text"], [b"a"])
    assert comparable(["text"], [b"a"]) < comparable(["text"], [b"a "])
    assert comparable(["padded"], [b"a  "]) == comparable(["padded"], [b"a"])
    assert comparable(["text", "integer"], [b"a", b"10"]) < comparable(
        ["text", "integer"], [b"b", b"9"]
    )


def test_a_row_was_read_when_its_range_was():
    ranges = TableRanges([Range(100, ("10",)), Range(200, ("20",)), Range(300, None)], ["integer"])
    assert [ranges.read_at([key]) for key in (b"-1", b"10", b"11", b"20", b"21")] == [
        100,
        100,
        200,
        200,
        300,
    ]
    assert (ranges.lowest, ranges.highest) == (100, 300)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=10))
def test_progress_survives_being_stored(steps):
    progress = Progress.begin(5, 1.5)
    key = lsn = 0
    seen = set()
    for step, grow in steps:
        key, lsn = key + step, lsn + (grow == 3)
        progress.advance("public.t", 100 + lsn, (str(key),))
        seen.add(lsn)
        again = Progress.from_state(progress.state())
        assert again == progress
        assert again.last_key("public.t") == (str(key),)
        assert not again.complete("public.t")
    progress.advance("public.t", 100 + lsn, None)
    assert progress.complete("public.t")
    assert len(progress.tables["public.t"]) == len(seen | {lsn})


@pytest.mark.parametrize(
    ("commit", "old_at", "new_at", "expected"),
    [
        (50, 100, 100, "skip"),
        (100, 100, 100, "keep"),
        (150, 100, 200, "delete"),
        (150, 200, 100, "insert"),
        (250, 100, 200, "keep"),
    ],
)
def test_an_update_across_ranges_becomes_what_the_reader_does_not_know_yet(
    commit, old_at, new_at, expected
):
    assert judge(commit, old_at, new_at) == expected


FACTS = ServerFacts(
    version=180004,
    wal_level="logical",
    database="shop",
    user="me",
    may_replicate=True,
    may_create=True,
    utf8=True,
    system="7",
    wal_lsn=1000,
    in_recovery=False,
    wal_sender_timeout=60,
    slots_used=0,
    slots_max=10,
)


def slot(confirmed, lost=""):
    return SlotFacts("pgoutput", "shop", False, None, confirmed, lost, "reserved")


def plan(found, stored, **more):
    given = settings("host=h dbname=test_x", slot_name="s", **more)
    return decide(given, FACTS, found, stored, 1.0)


STREAM = StreamPosition(1, 500, 0, {"system": "7"})


def test_a_position_that_says_how_far_rows_may_be_out_sorts_behind_one_that_says_nothing():
    progress = Progress.begin(7, 1.5)
    before = SnapshotPosition(0, 0, {"system": "1", **progress.state()})
    progress.ahead = ("public.t", Doubt(9, ("2",)))
    after = SnapshotPosition(0, 0, {"system": "1", **progress.state()})
    assert before.text() < after.text()
    assert Progress.from_state(before.state).doubts == {}
    assert Progress.from_state(after.state).doubts == {"public.t": Doubt(9, ("2",))}


def test_the_first_start_makes_the_slot_and_reads_the_rows_unless_told_otherwise():
    fresh = plan(None, None)
    assert fresh.create_slot
    assert fresh.progress is not None
    assert plan(None, None, snapshot="never").progress is None


def test_a_slot_without_a_stored_position_reads_the_rows_from_the_start():
    found = plan(slot(300), None)
    assert (found.create_slot, found.start) == (False, 300)
    assert found.progress == Progress.begin(300, 1.0)
    assert plan(slot(300), None, snapshot="never").skip == (300, 0)


def test_a_slot_at_or_behind_the_position_goes_on_after_it():
    for confirmed in (100, 500):
        found = plan(slot(confirmed), STREAM)
        assert (found.skip, found.start, found.generation) == ((500, 0), 500, 1)
        assert found.progress is None


def test_starting_over_never_lets_positions_go_back():
    anew = plan(slot(600), STREAM, on_position_mismatch="snapshot")
    assert anew.generation == 3
    assert anew.progress is not None
    assert plan(slot(600), STREAM, on_position_mismatch="trust_slot").generation == 3
    assert plan(slot(600), STREAM, on_position_mismatch="trust_position").generation == 1
    unread = SnapshotPosition(2, 5, {"start": 100, "read": {}})
    assert plan(None, unread, on_slot_missing="create").generation == 5


def test_snapshot_only_after_a_stream_is_refused():
    with pytest.raises(FatalError) as raised:
        plan(None, STREAM, snapshot="only")
    assert raised.value.code == "snapshot_only_after_stream"


def test_an_invalidated_slot_without_a_position_is_refused_too():
    with pytest.raises(FatalError) as raised:
        plan(slot(10, lost="wal_removed"), None)
    assert raised.value.code == "slot_invalidated"
    anew = plan(slot(10, lost="wal_removed"), None, on_slot_missing="create")
    assert (anew.drop_slot, anew.create_slot) == (True, True)
