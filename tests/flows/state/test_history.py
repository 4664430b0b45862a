"""History gives back every execution as it was settled."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from decimal import Decimal

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.batch import Batch, Change, derived
from connectors.errors import FatalError, PermanentError, RetryableError
from flows.state.history import PIECE, chunk_pieces, compress, decode_chunk
from tests.flows.state.samples import chunk, commit, encode_chunk, settlement
from transforms.executions import UNSET, Ended, Executions

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
texts = st.none() | st.text(max_size=20)
raws = (
    st.none()
    | values.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"", b"null", b'{\n "n": 12345678901234567890.10\n}', b"\xff\x00 no JSON"])
    | st.binary(max_size=30)
)
errors = st.builds(
    lambda kind, message, context: kind(message, code="c", hint="h", **context),
    st.sampled_from([PermanentError, RetryableError, FatalError]),
    st.text(),
    st.dictionaries(st.sampled_from(["url", "status"]), scalars),
)


@st.composite
def executions(draw):
    size = draw(st.integers(0, 6))

    def column(entries):
        return draw(
            st.lists(entries, min_size=size, max_size=size) | entries.map(lambda one: [one] * size)
        )

    columns = {
        "raw": column(raws),
        "id": column(st.text()),
        "source": column(st.text()),
        "type": column(st.text()),
        "partition": column(st.text()),
        "position": column(st.text()),
        "timestamp": column(st.none() | st.floats(0, 4e9) | st.integers(0, 4 * 10**9)),
        "extensions": column(st.dictionaries(st.text(), st.text() | st.booleans() | st.integers())),
    }
    for name in ("subject", "time", "datacontenttype", "dataschema", "key"):
        if draw(st.booleans()):
            columns[name] = column(texts)
    if draw(st.booleans()):
        changes = st.builds(Change, st.sampled_from(["INSERT", "DELETE"]), values, values)
        columns["change"] = column(st.none() | changes)
    at = st.sampled_from(range(size)) if size else st.nothing()
    ended = st.builds(
        Ended,
        st.sampled_from(["failed", "skipped", "not_triggered"]),
        texts,
        st.none() | errors,
    )
    made = Executions(
        Batch(size, columns, after={}),
        draw(st.text()),
        started=draw(st.floats(0, 4e9)),
        base_meta=draw(st.dictionaries(st.text(), scalars)),
        ended=draw(st.dictionaries(at, ended)),
        passed_over={"shape": draw(st.dictionaries(at, st.none() | errors))},
        keys=column(texts) if draw(st.booleans()) else None,
    )
    made.events.errors = draw(
        st.dictionaries(at, st.builds(PermanentError, st.text(), code=st.just("data_not_json")))
    )
    outputs = values | st.just(UNSET)
    made.outputs = {"shape": column(outputs), "total": column(outputs)}
    made.details = {"shape": column(st.none() | st.dictionaries(st.text(), scalars))}
    if draw(st.booleans()):
        made.encoded["total"] = [
            None if value is UNSET or draw(st.booleans()) else json.dumps(value).encode()
            for value in made.outputs["total"]
        ]
    return made


def _round_trip(made, *, only_failed=False):
    return decode_chunk(encode_chunk(made, meta=made.base_meta, only_failed=only_failed))


def _told(error):
    return error and (type(error), error.message, error.code, error.hint, error.context)


def _assert_same(made, view):
    was, now = made.events, view.executions.events
    names = ("raw", "id", "source", "type", "subject", "time", "timestamp", "datacontenttype")
    for name in (*names, "dataschema", "extensions", "key", "partition", "position", "change"):
        expected = was.column(name)
        assert now.column(name) == [expected[index] for index in view.indexes], name
    for place, index in enumerate(view.indexes):
        for step, column in made.outputs.items():
            value = view.executions.outputs[step][place]
            assert value == column[index]
            assert (value is UNSET) == (column[index] is UNSET)
        assert view.executions.details["shape"][place] == made.details["shape"][index]
        ended, before = view.executions.ended.get(place), made.ended.get(index)
        assert (ended is None) == (before is None)
        if ended is not None:
            assert (ended.outcome, ended.step) == (before.outcome, before.step)
            assert _told(ended.error) == _told(before.error)
        passed, passed_before = (x.passed_over.get("shape", {}) for x in (view.executions, made))
        assert (place in passed) == (index in passed_before)
        assert _told(passed.get(place)) == _told(passed_before.get(index))
        assert _told(now.errors.get(place)) == _told(was.errors.get(index))
        if made.keys is not None:
            assert view.executions.keys[place] == made.keys[index]
    assert view.executions.pipeline == made.pipeline
    assert view.executions.started == made.started
    assert view.executions.base_meta == made.base_meta


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(executions())
def test_what_was_triggered_comes_back_as_it_was(made):
    view = _round_trip(made)
    untriggered = {k for k, e in made.ended.items() if e.outcome == "not_triggered"}
    assert list(view.indexes) == [k for k in range(made.events.size) if k not in untriggered]
    _assert_same(made, view)


@settings(max_examples=50, deadline=None)
@given(executions())
def test_of_errors_alone_the_failed_ones_come_back_as_they_were(made):
    view = _round_trip(made, only_failed=True)
    failed = sorted(k for k, e in made.ended.items() if e.outcome == "failed")
    assert list(view.indexes) == failed
    _assert_same(made, view)


def _executions(size=2, **more):
    columns = {
        "raw": [b'{"id":%d}' % number for number in range(size)],
        "id": [f"e{number}" for number in range(size)],
        "source": ["/orders"] * size,
        "type": ["order.created"] * size,
        "partition": ["orders/0"] * size,
        "position": [f"{number:03}" for number in range(size)],
        "timestamp": [1_700_000_000.25] * size,
    }
    columns |= more.pop("columns", {})
    return Executions(Batch(size, columns, after={}, **more), "enrich")


def test_ids_and_contexts_are_made_from_history_as_they_were_from_life():
    made = _executions()
    made.outputs["shape"] = [{"a": 1}, {"a": 2}]
    made.base_meta = {"flow": "shop"}
    view = _round_trip(made)
    for index in (0, 1):
        assert view.executions.execution_id(index) == made.execution_id(index)
        assert view.executions.context(index) == made.context(index)
        assert view.executions.events.event(index) == made.events.event(index)


def test_integers_of_any_size_keep_their_digits_in_data_and_outputs():
    made = _executions(1, columns={"raw": [b'{"n":123456789012345678901234567890}']})
    made.outputs["shape"] = [{"n": 123456789012345678901234567890}]
    view = _round_trip(made)
    assert view.executions.events.column("raw") == [b'{"n":123456789012345678901234567890}']
    assert view.executions.outputs["shape"] == [{"n": 123456789012345678901234567890}]


def test_an_output_that_is_not_json_is_kept_as_text_and_breaks_nothing():
    loop = {"a": 1}
    loop["self"] = loop
    when = datetime(2026, 11, 21, tzinfo=timezone.utc)
    made = _executions(5)
    made.outputs["odd"] = [Decimal("1.10"), {(1, 2): "pair"}, loop, "\ud800", when]
    odd = _round_trip(made).executions.outputs["odd"]
    assert odd[0] == "1.10"
    assert odd[1] == {"(1, 2)": "pair"}
    assert odd[2]["a"] == 1
    assert odd[3] == "\ud800"
    assert odd[4].startswith("2026-11-21")


def test_a_change_whose_image_is_the_data_itself_keeps_it_once():
    big = {"text": "x" * 5000}
    made = _executions(1, columns={"raw": [json.dumps(big).encode()]})
    data = made.events.column("data")
    made.events.columns["change"] = [Change("INSERT", None, data[0])]
    body = encode_chunk(made, meta={})
    assert len(zstandard.decompress(body)) < 6000
    view = decode_chunk(body)
    assert view.executions.events.column("change") == [Change("INSERT", None, big)]


def test_a_long_body_is_compressed_in_pieces_and_is_whole_only_with_all_of_them():
    count = 400
    text = PIECE * 3 // count // 2
    raws = [json.dumps({"n": n, "text": os.urandom(text).hex()}).encode() for n in range(count)]
    made = _executions(count, columns={"raw": raws})
    pieces = chunk_pieces(made, meta={})
    assert len(pieces) == 4
    assert all(PIECE // 8 < len(piece) < PIECE * 2 for piece in pieces)
    body = compress(pieces)
    assert decode_chunk(body).executions.events.column("raw") == raws
    for some in (pieces[:-1], pieces[:1], pieces[1:], [*pieces, pieces[-1]]):
        with pytest.raises(PermanentError, match="can't be read"):
            decode_chunk(compress(some))
    with pytest.raises(PermanentError, match="can't be read"):
        decode_chunk(body[:-100])


def test_a_body_that_is_not_made_yet_is_made_when_it_is_stored(store, lease):
    made = settlement(2, history=chunk(b"", count=2))
    made.history_pieces = chunk_pieces(_executions(2), meta={})
    commit(store, lease, [made])
    ((number, body),) = store.chunks.bodies([1]).items()
    assert (number, decode_chunk(body).executions.events.size) == (1, 2)
    assert made.history_pieces == []
    assert made.history.body == body


@pytest.mark.parametrize(
    "value",
    [
        10**40,
        -(2**63) - 1,
        2**64,
        9007199254740993,
        -0.0,
        1e22,
        [2**64],
        {"a": -(10**19)},
        [[1e-7]],
    ],
    ids=str,
)
@pytest.mark.parametrize("encoded", [False, True])
def test_every_digit_of_a_number_comes_back(value, encoded):
    made = _executions(2)
    made.outputs["step"] = [value, ",12345678901234567890"]
    if encoded:
        made.encoded["step"] = [json.dumps(each).encode() for each in made.outputs["step"]]
    view = decode_chunk(encode_chunk(made, meta={}))
    found = view.executions.outputs["step"]
    assert (repr(found[0]), found[1]) == (repr(value), ",12345678901234567890")
    assert repr(view.put_out(0)["step"]) == repr(value)


@derived("partition", "number")
def position_of_number(batch):
    columns = zip(batch.column("partition"), batch.column("number"), strict=True)
    return [f"{partition}@{number:05}" for partition, number in columns]


@derived("position")
def id_of_position(batch):
    return [f"id-{position}" for position in batch.column("position")]


def test_a_column_that_others_make_is_made_again_instead_of_kept():
    made = _executions(3, columns={"number": [7, 8, 9]})
    del made.events.columns["position"], made.events.columns["id"]
    made.events.makers = {"position": position_of_number, "id": id_of_position}
    body = encode_chunk(made, meta={})
    assert "id" not in made.events.columns  # nobody paid for it
    assert b"orders/0@00007" not in zstandard.decompress(body)
    view = decode_chunk(body)
    assert view.executions.events.column("id") == [
        "id-orders/0@00007",
        "id-orders/0@00008",
        "id-orders/0@00009",
    ]


@derived("operation", "before_raw", "after_raw")
def change_of_raws(batch):
    names = ("operation", "before_raw", "after_raw")
    rows = zip(*(batch.column(name) for name in names), strict=True)
    return [
        Change(operation, *(None if raw is None else json.loads(raw) for raw in images))
        for operation, *images in rows
    ]


def test_a_source_may_keep_bytes_of_its_own_and_those_of_raw_are_kept_once():
    raw = [b'{"id":%d,"text":"%s"}' % (n, b"x" * 3000) for n in range(3)]
    before = [None, b'{"id":7}', None]
    made = _executions(3, columns={"raw": raw, "operation": ["UPDATE"] * 3, "before_raw": before})
    made.events.columns["after_raw"] = made.events.columns["raw"]
    made.events.makers = {"change": change_of_raws}
    made.end(2, Ended("not_triggered"))
    body = encode_chunk(made, meta={})
    assert "change" not in made.events.columns
    assert len(zstandard.decompress(body)) < 7000
    assert decode_chunk(body).executions.events.column("change") == [
        Change("UPDATE", None, json.loads(raw[0])),
        Change("UPDATE", {"id": 7}, json.loads(raw[1])),
    ]


def test_a_column_without_that_mark_is_made_and_kept():
    made = _executions(2)
    del made.events.columns["id"]
    made.events.makers = {"id": lambda batch: [f"made-{n}" for n in batch.state]}
    made.events.state = [4, 5]
    assert _round_trip(made).executions.events.column("id") == ["made-4", "made-5"]


def _damaged(text):
    return zstandard.compress(text)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "can't be read"),
        (b"not zstd", "can't be read"),
        (_damaged(b"no header"), "can't be read"),
        (_damaged(b'{"version":99}\n'), "version 99"),
    ],
)
def test_a_damaged_body_is_an_error_with_a_code(body, says):
    with pytest.raises(PermanentError, match=says) as caught:
        decode_chunk(body)
    assert caught.value.code == "history_unreadable"


def test_only_makers_that_a_source_marked_are_called_by_their_names():
    made = _executions(1)
    made.events.makers = {"id": id_of_position}
    text = zstandard.decompress(encode_chunk(made, meta={}))
    with pytest.raises(PermanentError, match="no longer has os:getcwd"):
        decode_chunk(_damaged(text.replace(f"{__name__}:id_of_position".encode(), b"os:getcwd")))


def test_a_body_that_is_cut_anywhere_does_not_pass_for_history(monkeypatch):
    monkeypatch.setattr("flows.state.history.PIECE", 64)
    body = encode_chunk(_executions(4), meta={})
    assert body.count(zstandard.FRAME_HEADER) > 3
    for end in range(len(body)):
        with pytest.raises(PermanentError, match="can't be read"):
            decode_chunk(body[:end])


def test_one_flipped_bit_does_not_pass_for_history():
    body = bytearray(encode_chunk(_executions(2), meta={}))
    body[len(body) // 2] ^= 1
    with pytest.raises(PermanentError):
        decode_chunk(bytes(body))
