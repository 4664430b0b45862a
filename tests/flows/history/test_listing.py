"""Lists of executions: newest first, page by page, by what is asked for."""

from __future__ import annotations

import pytest

from connectors.errors import FlowFileError
from flows.history.finding import find_execution
from flows.history.listing import ExecutionFilter, list_executions
from flows.state.chunk_store import Chunks


def _numbers(recording, *, limit=50, cursor=None, **wanted):
    found = list_executions(
        recording.store, ExecutionFilter("shop", **wanted), limit=limit, cursor=cursor
    )
    return [each.attribute("data")["n"] for each in found.executions]


@pytest.fixture
def filled(recording):
    """1 to 5 went through, 11 to 13 failed, 21 was refused, 31 to 40 went through, in this order."""
    recording.settle(recording.done(1, 2, 3, 4, 5))
    recording.settle(recording.failed(11, 12, 13))
    recording.settle(recording.failed(21, code="timeout"))
    recording.settle(recording.done(*range(31, 41)))
    return recording


def test_the_last_that_ended_come_first(filled):
    expected = [*range(40, 30, -1), 21, 13, 12, 11, 5, 4, 3, 2, 1]
    assert _numbers(filled) == expected
    assert _numbers(filled, limit=3) == expected[:3]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 19, 20])
def test_pages_follow_each_other_to_the_end_without_a_gap(filled, limit):
    seen, cursor = [], None
    for _ in range(25):
        page = list_executions(filled.store, ExecutionFilter("shop"), limit=limit, cursor=cursor)
        seen += [each.attribute("data")["n"] for each in page.executions]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == _numbers(filled)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"status": "failed"}, [21, 13, 12, 11]),
        ({"status": "failed", "pipeline": "ship"}, [21, 13, 12, 11]),
        ({"pipeline": "other"}, []),
        ({"status": "skipped"}, []),
        ({"error_code": "timeout"}, [21]),
        ({"error_code": "time%"}, []),
        ({"error_code": "http_status", "where": ".data.n > 11"}, [13, 12]),
        (
            {"status": "completed", "event_type": "*.changed", "until": None},
            [40, 38, 36, 34, 32, 4, 2],
        ),
        ({"event_type": "order.shipped"}, []),
        ({"subject": "orders/1*"}, [13, 12, 11, 1]),
        ({"tenant": "shop-1", "status": "failed"}, [21, 13, 11]),
        ({"tenant": "nobody"}, []),
        ({"where": '.data.total == 7 or .id == "e3"'}, [3]),
        ({"where": ".steps.charge.output.charged == 33"}, [33]),
        ({"since": 9e9}, []),
        ({"until": 1.0}, []),
    ],
)
def test_a_list_holds_what_is_asked_for(filled, wanted, found):
    assert _numbers(filled, **wanted) == found


def test_a_time_range_is_of_when_they_ended(filled):
    ended = list_executions(filled.store, ExecutionFilter("shop")).executions
    moment = ended[10].ended_at
    assert _numbers(filled, since=moment)[-1] == 21
    assert _numbers(filled, until=moment)[0] == 13


def test_what_can_not_be_there_is_not_read(filled, monkeypatch):
    read = []
    bodies = Chunks.bodies

    def counted(self, ids):
        read.extend(ids)
        return bodies(self, ids)

    monkeypatch.setattr(Chunks, "bodies", counted)
    assert _numbers(filled, error_code="timeout") == [21]
    assert len(read) == 1
    read.clear()
    assert _numbers(filled, event_type="nothing.*") == []
    assert read == []


def test_a_page_is_given_up_in_time_and_goes_on_where_it_was(filled):
    wanted = ExecutionFilter("shop", where=".data.n == 1")
    page = list_executions(filled.store, wanted, within=0.0)
    assert page.executions == []
    for _ in range(10):
        if page.executions:
            break
        page = list_executions(filled.store, wanted, within=0.0, cursor=page.cursor)
    assert [each.attribute("data")["n"] for each in page.executions] == [1]


def test_one_that_was_recorded_twice_is_listed_once(recording):
    recording.settle(recording.done(1, 2))
    recording.settle(recording.done(2))
    assert _numbers(recording) == [2, 1]


def test_events_that_are_not_json_are_listed(recording):
    made = recording.done(1, 2)
    made.events.columns["raw"][0] = b"\xff no JSON"
    recording.settle(made)
    found = list_executions(recording.store, ExecutionFilter("shop"))
    assert [each.attribute("id") for each in found.executions] == ["e2", "e1"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "1.0,2", "1.0,2,x", "nan?,1,1", "1.0," + "9" * 30 + ",1"]
)
def test_what_is_no_cursor_is_told(on_sqlite, cursor):
    with pytest.raises(FlowFileError) as caught:
        list_executions(on_sqlite.store, ExecutionFilter("shop"), cursor=cursor)
    assert caught.value.code == "cursor_unknown"


def test_jq_that_can_not_be_read_is_told(on_sqlite):
    with pytest.raises(FlowFileError) as caught:
        list_executions(on_sqlite.store, ExecutionFilter("shop", where=".data["))
    assert caught.value.code == "where_invalid"


def test_chunks_of_before_there_were_columns_to_skip_by_are_found_all_the_same(recording):
    made = recording.failed(11)
    recording.settle(made)
    recording.store._database.run(
        lambda c: c.exec_driver_sql(
            "UPDATE penstock_history_chunks SET span = 99, errors = NULL, types = NULL, skipped = NULL"
        )
    )
    assert _numbers(recording, error_code="http_status", event_type="order.*") == [11]
    (execution,) = recording.ids(made)
    assert find_execution(recording.store, "shop", execution).id == execution
