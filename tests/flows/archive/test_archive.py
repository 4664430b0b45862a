"""What was archived is read again: the events as they were, of a window, each once."""

from __future__ import annotations

import random
import threading

import pytest

from connectors.batch import Change
from connectors.contracts import Opening, Shard, Surveying, Window
from connectors.errors import FatalError, FlowFileError, PermanentError, RetryableError
from flows.archive.source import archive_of
from flows.state import store as store_module
from tests.flows.archive.archiving import (
    ATTRIBUTES,
    EVER,
    Archived,
    batches_of,
    events,
    numbers_of,
)


def test_events_come_back_as_their_source_handed_them_over(archived):
    batch = events(
        *range(4),
        subject=["a", None, "c", "d"],
        dataschema=[None, "urn:x", None, None],
        datacontenttype=["application/json"] * 4,
        extensions=[{"tenant": "acme"}, {}, {"n": 1, "yes": True}, {}],
        time=["2026-11-21T10:00:00Z"] * 4,
    )
    batch.columns["raw"] = [b'{"n":12345678901234567890123}', None, b'"\xc3\xa9"', b"[1.10]"]
    expected = {name: list(batch.column(name)) for name in ATTRIBUTES}
    archived.add(batch)
    (found,) = archived.read()
    assert {name: found.column(name) for name in ATTRIBUTES} == expected
    assert [event.attributes() for event in map(found.event, range(4))] == [
        event.attributes() for event in map(batch.event, range(4))
    ]


def test_changes_of_rows_come_back_whole(archived):
    change = Change("UPDATE", {"n": 0}, {"n": 1})
    archived.add(events(1, 2, change=[change, Change("DELETE", {"n": 2}, None)]))
    (found,) = archived.read()
    assert found.column("change") == [change, Change("DELETE", {"n": 2}, None)]


def test_what_could_not_be_decoded_keeps_its_bytes_and_its_error(archived):
    batch = events(1, 2, 3)
    batch.columns["raw"] = [b'{"n":1}', b"{broken", None]
    batch.columns["wire"] = [None, None, b"\xff\x00\nwire"]
    batch.errors[2] = PermanentError("no envelope.", code="cloudevents_malformed")
    batch.column("data")
    archived.add(batch)
    (found,) = archived.read()
    assert found.column("raw") == [b'{"n":1}', b"{broken", None]
    assert found.column("wire") == [None, None, b"\xff\x00\nwire"]
    assert {index: error.code for index, error in found.errors.items()} == {
        1: "data_not_json",
        2: "cloudevents_malformed",
    }


def test_a_window_is_half_open_whatever_order_the_events_times_come_in(archived):
    archived.add(events(5, 1, 9, 3), events(4, 8, 2), events(20, 21))
    assert archived.numbers(Window(3000, 9000)) == [5, 3, 4, 8]
    assert archived.numbers(Window(3001, 9001)) == [5, 9, 4, 8]
    assert archived.numbers(Window(30_000, 40_000)) == []


def test_times_between_two_milliseconds_fall_into_exactly_one_window(archived):
    archived.add(events(1, 2, times=[1.0004, 1.9996]))
    assert archived.numbers(Window(0, 1001)) == [1]
    assert archived.numbers(Window(1001, 2000)) == [2]
    assert archived.numbers(Window(2000, 3000)) == []


def test_an_event_without_a_time_is_found_by_when_it_was_archived(archived):
    archived.add(events(1, 2, times=[None, 50.0]), now=100.0)
    assert archived.numbers(Window(99_000, 101_000)) == [1]
    assert archived.numbers(Window(0, 60_000)) == [2]


def test_an_event_of_another_century_hides_nothing_and_is_found(archived):
    archived.add(events(1, 2, times=[-9e9, 50.0]), events(3, times=[9e10]), events(4))
    assert archived.numbers(Window(49_000, 51_000)) == [2]
    assert archived.numbers(Window(90_000_000_000_000, 90_000_000_000_001)) == [3]
    assert archived.numbers(Window(4000, 4001)) == [4]


def test_each_shard_reads_its_partitions_and_all_is_read_once(archived):
    names = [f"orders/{n % 3}" for n in range(30)]
    archived.add(events(*range(30), partition=names), events(30, 31, partition="rows"))
    shares = [archived.numbers(shard=Shard(index, 2)) for index in range(2)]
    assert sorted(n for share in shares for n in share) == list(range(32))
    assert all(shares)


def test_reading_resumes_behind_any_batch_and_repeats_nothing(archived):
    names = ["a", "b", "a", "c", "b"] * 4
    archived.add(
        *(events(*range(at, at + 5), partition=names[at : at + 5]) for at in range(0, 20, 5))
    )
    whole = archived.numbers(Window(2000, 18_000))
    for most in range(6):
        opening = Opening(shard=Shard(), positions={}, window=Window(2000, 18_000))
        before, positions = [], {}
        for batch in batches_of(archived.source.open(opening), 3, most):
            before += numbers_of(batch)
            positions.update(batch.after)
        after = archived.numbers(Window(2000, 18_000), positions=positions, limit=7)
        assert before + after == whole


def test_positions_grow_within_a_partition_and_lead_to_where_the_batch_ends(archived):
    archived.add(*(events(n, n + 1) for n in range(0, 20, 2)))
    last = ""
    for batch in archived.read(limit=3):
        places = batch.column("position")
        assert [last, *places] == sorted({last, *places})
        last = places[-1]
        assert batch.after == {"lines": last}


def test_small_batches_are_handed_over_together_and_those_of_other_columns_apart(archived):
    archived.add(*(events(n) for n in range(50)))
    archived.add(*(events(n, subject=["s"]) for n in range(50, 60)))
    first, second = archived.read()
    assert numbers_of(first) == list(range(50))
    assert numbers_of(second) == list(range(50, 60))
    assert second.column("subject") == ["s"] * 10


def test_the_archives_of_other_sources_and_flows_are_not_read(archived):
    archived.add(events(1), source="other")
    archived.add(events(2))
    assert archived.numbers() == [2]


def test_what_is_archived_while_it_is_read_is_not_waited_for(archived):
    archived.add(events(1))
    reader = archived.source.open(Opening(shard=Shard(), positions={}, window=EVER))
    archived.add(events(2))
    assert [numbers_of(batch) for batch in batches_of(reader)] == [[1]]


def test_chunks_without_an_event_of_the_wanted_type_are_not_even_read(archived):
    archived.add(events(1, 2), events(3, type_="order.paid"), events(4, type_="user.left"))
    many = events(*range(100, 200))
    many.columns["type"] = [f"other.{n}" for n in range(99)] + ["order.paid"]
    archived.add(many)
    archived.damage(archived.ids()[2])
    paid = archive_of(archived.store, "shop", "orders", event_type="order.p*")
    reader = paid.open(Opening(shard=Shard(), positions={}, window=EVER))
    assert [n for batch in batches_of(reader) for n in numbers_of(batch)] == [3, *range(100, 200)]


@pytest.mark.postgres
def test_a_chunk_that_another_worker_is_just_storing_is_waited_for(database, opening, monkeypatch):
    first, second = opening(database), opening(database)
    slow = Archived(first, first.acquire_lease("shop", "orders/0", "me", 60.0))
    fast = Archived(second, second.acquire_lease("shop", "orders/1", "me", 60.0))
    fast.add(events(0))
    stored, go_on = threading.Event(), threading.Event()

    def hesitate(_name):
        if threading.current_thread() is thread:
            stored.set()
            go_on.wait(60)

    monkeypatch.setattr(store_module, "fail_point", hesitate)
    thread = threading.Thread(target=slow.add, args=[events(1)])
    thread.start()
    try:
        assert stored.wait(60)
        fast.add(events(2))
        reader = fast.source.open(Opening(shard=Shard(), positions={}, window=Window(1000, 9000)))
        assert reader.poll(10, 0.5) is None  # what is stored already comes behind it
    finally:
        go_on.set()
        thread.join()
    assert [n for batch in batches_of(reader) for n in numbers_of(batch)] == [1, 2]


def test_an_archive_is_read_by_time_alone(archived):
    archived.add(events(1))
    with pytest.raises(FlowFileError) as caught:
        archived.source.open(Opening(shard=Shard(), positions={}))
    assert caught.value.code == "archive_window"


def test_a_position_of_the_source_itself_is_refused(archived):
    archived.add(events(1))
    with pytest.raises(FatalError) as caught:
        archived.read(positions={"lines": "0000000017"})
    assert caught.value.code == "position_foreign"


# --- what is told of a window -------------------------------------------------------------------


def test_a_survey_tells_what_a_window_holds(archived):
    archived.add(events(1, 2, 3), events(11, 12))
    assert isinstance(archived.source, Surveying)
    found = archived.source.survey(Window(1000, 20_000))
    assert (found.events, found.exact, found.gaps) == (5, True, ())
    assert (found.first, found.last) == (1000, 12_000)
    assert found.bytes > 0
    assert {type(found.events), type(found.bytes)} == {int}


def test_the_number_of_a_window_that_cuts_a_chunk_is_an_estimate_from_above(archived):
    archived.add(events(1, 2, 3), events(11, 12))
    found = archived.source.survey(Window(2000, 12_000))
    assert (found.events, found.exact) == (5, False)
    assert len(archived.numbers(Window(2000, 12_000))) == 3


def test_what_was_before_the_archive_is_a_gap(archived):
    archived.add(events(100))
    (gap,) = archived.source.survey(Window(50_000, 200_000)).gaps
    assert (gap.since, gap.until) == (50_000, 100_000)
    assert "begins" in gap.reason


def test_nothing_archived_at_all_is_one_gap(archived):
    found = archived.source.survey(Window(0, 10))
    assert (found.events, [(g.since, g.until) for g in found.gaps]) == (0, [(0, 10)])
    (check,) = archived.source.preflight()
    assert not check.ok


def test_a_time_in_which_the_flow_ran_without_its_archive_is_a_gap(archived):
    archived.add(events(1))
    archive = archived.store.archive
    archive.run_with("shop", "orders", archived=False, now=10.0)
    archive.run_with("shop", "orders", archived=False, now=15.0)
    (running,) = archived.source.survey(Window(1000, 50_000)).gaps
    assert (running.since, running.until) == (10_000, 50_000)
    archive.run_with("shop", "orders", archived=True, now=20.0)
    archived.add(events(30))
    (gap,) = archived.source.survey(Window(1000, 50_000)).gaps
    assert (gap.since, gap.until) == (10_000, 20_001)
    assert archived.numbers() == [1, 30]


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", ["body", "count = 2", "last_time = 4", "types = 'x'", "digest = body"]
)
def test_a_damaged_chunk_is_an_error_that_names_it(archived, what):
    archived.add(events(1, 2, 3))
    (number,) = archived.ids()
    archived.damage(number, what)
    with pytest.raises(FatalError) as caught:
        archived.read()
    assert caught.value.code == "archive_damaged"
    assert f"chunk {number} " in caught.value.message


def test_a_damaged_chunk_is_a_gap_once_it_was_read_and_passed_over_once_given_up(archived):
    archived.add(events(1), events(10, 12), events(20))
    number = archived.ids()[1]
    archived.damage(number)
    with pytest.raises(FatalError):
        archived.read()
    found = archived.source.survey(Window(1000, 30_000))
    (gap,) = found.gaps
    assert (found.events, gap.since, gap.until) == (2, 10_000, 12_001)
    assert f"chunk {number} with 2 events is damaged" in gap.reason
    archived.store.archive.give_up("shop", "orders", number)
    archived.store.archive.give_up("shop", "orders", number)
    assert archived.numbers() == [1, 20]
    (gap,) = archived.source.survey(Window(1000, 30_000)).gaps
    assert "given up" in gap.reason


# --- retention ----------------------------------------------------------------------------------


def totals(archived):
    (found,) = archived.store.archive.totals("shop", "orders")
    return found.chunks, found.events


def test_what_is_past_its_retention_is_forgotten_and_its_time_is_a_gap(archived):
    for at in range(1, 6):
        archived.add(events(at), now=float(at))
    archive = archived.store.archive
    assert archive.forget("shop", "orders", before=3.0, max_bytes=None) == 2
    assert archived.numbers() == [3, 4, 5]
    assert totals(archived) == (3, 3)
    (gap,) = archived.source.survey(Window(1000, 10_000)).gaps
    assert (gap.since, gap.until) == (1000, 2001)
    assert archived.source.survey(Window(3000, 10_000)).gaps == ()


def test_an_archive_keeps_to_its_size_and_the_oldest_go_first(archived):
    for at in range(1, 301):
        archived.add(events(at), now=float(at))
    archive = archived.store.archive
    (before,) = archive.totals("shop", "orders")
    assert archive.forget("shop", "orders", before=None, max_bytes=before.bytes // 10) >= 270
    (after,) = archive.totals("shop", "orders")
    assert 0 < after.bytes <= before.bytes // 10
    assert archived.numbers() == list(range(301 - after.events, 301))
    assert after.oldest == 301 - after.events


def test_what_is_forgotten_while_it_is_read_is_an_error_and_not_passed_over(archived):
    archived.add(*(events(n, subject=[str(n)], **{f"c{n}": [n]}) for n in range(1, 400)))
    reader = archived.source.open(Opening(shard=Shard(), positions={}, window=EVER))
    archived.store.archive.forget("shop", "orders", before=None, max_bytes=0)
    with pytest.raises(FatalError) as caught:
        list(batches_of(reader, 1))
    assert caught.value.code == "archive_forgotten"


def test_a_full_disk_archives_nothing_by_halves_and_it_is_made_up_for(sqlite_url, opening):
    store = opening(sqlite_url)
    archived = Archived(store, store.acquire_lease("shop", "orders/0", "me", 60.0))
    connection = store._database._connected()
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    large = events(1)
    large.columns["raw"] = [random.Random(1).randbytes(100_000)]
    with pytest.raises(RetryableError, match="disk is full"):
        archived.add(large)
    assert store.archive.totals("shop") == []
    assert store.checkpoints("shop", "orders") == {}
    archived.add(large)
    assert totals(archived) == (1, 1)
