"""Dead letters out of the state store and back: nothing is lost, nothing is rounded, nothing is twice."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from connectors.errors import FlowFileError
from dlq.archive import discard, export, import_lines, letter_of_line, line_of
from dlq.selection import Selection
from flows.state.letter_filter import LetterFilter
from flows.state.replays import Chosen
from flows.state.store import open_store
from tests.flows.state.samples import commit, letter, settlement

ALL = Selection(LetterFilter(flow="shop"))


@pytest.fixture
def letters():
    digits = '{"specversion":"1.0","data":{"n":12345678901234567890123,"total":10.50}}'
    return [
        letter(
            1,
            event=digits,
            wire=b"\xff\x00",
            key="k",
            step=None,
            change='{"operation":"INSERT","before":null,"after":1.0}',
        ),
        letter(2, tries='[{"at":"x"}]', replays=3, attempts=4, details='{"call":{"status":200}}'),
        *[letter(number, error_code="other") for number in range(3, 8)],
    ]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request, tmp_path, letters):
    url = f"sqlite:///{tmp_path}/state.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("state_database")
    opened = open_store(url)
    lease = opened.acquire_lease("shop", "orders/0", "me", 60.0)
    commit(opened, lease, [settlement(letters=letters)])
    yield opened
    opened.close()


def _stored(store, flow="shop"):
    return sorted(store.letters.page(LetterFilter(flow=flow), 1000), key=lambda each: each.id)


def test_what_is_exported_and_imported_elsewhere_is_the_same_to_the_digit_and_byte(
    store, letters, tmp_path
):
    file = io.BytesIO()
    assert export(store, ALL, file) == 7
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    try:
        done = import_lines(other, io.BytesIO(file.getvalue()), file="x")
        assert (done.added, done.known) == (7, 0)
        assert _stored(other) == letters
        assert other.flows() == ["shop"]  # so that commands find it
    finally:
        other.close()


def test_an_import_that_is_repeated_adds_nothing(store, letters):
    lines = list(map(line_of, [*letters, letter(99)]))
    assert import_lines(store, lines, file="x").added == 1
    done = import_lines(store, lines, file="x")
    assert (done.added, done.known) == (0, 8)
    assert len(_stored(store)) == 8


def test_only_the_flow_that_is_asked_for_is_imported(store):
    lines = [line_of(letter(50)), line_of(letter(51, flow="bank")), b"\n"]
    done = import_lines(store, lines, file="x", flow="shop")
    assert (done.added, done.left_out) == (1, 1)


def test_a_line_that_is_wrong_is_named_and_those_before_it_are_imported(store):
    with pytest.raises(FlowFileError, match="x:2 is not JSON") as caught:
        import_lines(store, [line_of(letter(50)), b'{"a":'], file="x")
    assert caught.value.code == "import_invalid"
    assert store.letters.count(LetterFilter(ids=(letter(50).id,))) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"penstock_dead_letter": 2}, "not an exported"),
        ({"event": "{"}, "no JSON as event"),
        ({"attempts": "3"}, "no number as attempts"),
        ({"pipeline": None}, "no text as pipeline"),
        ({"wire": "%"}, "no base64 as wire"),
    ],
)
def test_an_entry_that_is_none_is_refused(change, why):
    entry = json.loads(line_of(letter(1))) | change
    with pytest.raises(FlowFileError, match=why):
        letter_of_line(json.dumps(entry).encode(), "x:1")


def test_what_is_discarded_is_in_the_archive_and_can_be_brought_back(store, letters, tmp_path):
    archive = tmp_path / "gone.jsonl"
    wanted = Selection(LetterFilter(flow="shop", error_code="other"))
    assert discard(store, wanted, archive) == 5
    assert _stored(store) == letters[:2]
    with archive.open("rb") as lines:
        assert import_lines(store, lines, file="x").added == 5
    assert _stored(store) == letters


def test_what_can_not_be_archived_is_not_deleted(store, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        discard(store, ALL, tmp_path / "no" / "such" / "folder.jsonl")
    assert len(_stored(store)) == 7


def test_a_discard_of_what_jq_chooses_takes_nothing_else(store, letters):
    chosen = Selection(LetterFilter(flow="shop"), where=".data.total == 10.5 and .key == null")
    before = store.letters.count(LetterFilter(flow="shop"))
    gone = discard(store, replace(chosen, where=".data.n > 100"), None)
    assert (gone, store.letters.count(LetterFilter(flow="shop"))) == (1, before - 1)


def test_what_a_replay_has_is_not_discarded(store, letters, tmp_path):
    number = store.replays.begin("shop", by="me", selection="{}")
    store.replays.add(store.replays.get(number), [Chosen(letters[0])], None)
    assert discard(store, ALL, tmp_path / "gone.jsonl") == 6
    assert [each.id for each in _stored(store)] == [letters[0].id]
