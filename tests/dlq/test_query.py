"""Listing and finding dead letters, on a real state store."""

from __future__ import annotations

import json

import orjson
import pytest

from connectors.errors import FlowFileError
from dlq.query import find_letter, list_letters, page_document
from flows.state.letter_documents import detail
from flows.state.store import open_store
from tests.flows.state.samples import commit, letter, settlement


@pytest.fixture
def store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    yield store
    store.close()


def _fill(store, letters, flow="shop"):
    lease = store.acquire_lease(flow, "orders/0", "me", 60.0)
    commit(store, lease, [settlement(letters=letters)])


def test_pages_follow_each_other_to_the_end_without_a_gap(store):
    _fill(store, [letter(number, last_failed_at=float(number // 3)) for number in range(10)])
    seen, cursor = [], None
    for _ in range(4):
        page = list_letters(store, flow="shop", limit=3, cursor=cursor)
        seen += page.letters
        cursor = page.cursor
    assert cursor is None
    assert len(seen) == 10
    assert seen == list_letters(store).letters


def test_a_page_that_holds_all_has_no_cursor(store):
    _fill(store, [letter(1), letter(2)])
    assert list_letters(store, limit=2).cursor is None
    assert list_letters(store, flow="bank").letters == []


def test_a_pipeline_is_asked_for_by_name(store):
    _fill(store, [letter(1), letter(2, pipeline="audit")])
    page = list_letters(store, flow="shop", pipeline="audit")
    assert [found.event_id for found in page.letters] == ["event-2"]


def test_a_page_of_nothing_is_refused(store):
    with pytest.raises(FlowFileError, match="0 entries"):
        list_letters(store, limit=0)


def test_the_start_of_an_id_finds_its_letter(store):
    _fill(store, [letter(1), letter(22)])
    assert find_letter(store, f" {letter(22).id[:-1].upper()} ").event_id == "event-22"
    assert find_letter(store, letter(1).id, flow="shop").event_id == "event-1"


@pytest.mark.parametrize("prefix", ["ffff", "", "  "])
def test_an_id_that_fits_none_is_told(store, prefix):
    _fill(store, [letter(1)])
    with pytest.raises(FlowFileError, match="there is no dead letter") as caught:
        find_letter(store, prefix)
    assert caught.value.code == "dead_letter_unknown"


def test_an_id_that_fits_several_names_them(store):
    _fill(store, [letter(number) for number in range(1, 9)])
    with pytest.raises(FlowFileError, match="fits several") as caught:
        find_letter(store, "019a")
    assert caught.value.code == "dead_letter_ambiguous"
    assert letter(8).id in caught.value.message
    assert "Give more of the id" in caught.value.hint


def test_the_same_event_in_two_flows_is_told_apart_by_the_flow(store):
    _fill(store, [letter(1)])
    _fill(store, [letter(1, flow="bank")], flow="bank")
    with pytest.raises(FlowFileError) as caught:
        find_letter(store, letter(1).id)
    assert "Name the flow" in caught.value.hint
    assert find_letter(store, letter(1).id, flow="bank").flow == "bank"


def test_json_has_every_digit_of_what_is_stored(store):
    _fill(store, [letter(1, wire=b"\xff", change='{"operation":"INSERT"}')])
    text = orjson.dumps(detail(find_letter(store, letter(1).id)))
    assert b'"data":{"total":10.50}' in text
    shown = json.loads(text)
    assert shown["event"]["type"] == "t"
    assert shown["outputs"] == {"shape": {"id": 1}}
    assert shown["error"]["context"] == {"status": 422}
    assert shown["wire_base64"] == "/w=="
    assert shown["change"] == {"operation": "INSERT"}
    assert shown["last_failed_at"] == "1970-01-01T00:16:41.000Z"


def test_a_page_is_json_with_its_cursor(store):
    _fill(store, [letter(1), letter(2)])
    document = json.loads(orjson.dumps(page_document(list_letters(store, limit=1))))
    assert [entry["event_id"] for entry in document["dead_letters"]] == ["event-2"]
    assert document["cursor"]
