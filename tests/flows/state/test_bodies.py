"""What waits comes back as it was set aside, each execution from a body of its own."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings

from connectors.batch import Arrival, Batch
from flows.state.bodies import encode_each
from flows.state.history import decode_chunk
from tests.flows.state.samples import encode_chunk
from tests.flows.state.test_history import executions
from transforms.executions import UNSET, Ended, Executions

COLUMNS = ("raw", "id", "source", "type", "subject", "time", "timestamp", "datacontenttype")
MORE = ("dataschema", "extensions", "key", "partition", "position", "change")


@settings(max_examples=150, deadline=None)
@given(executions())
def test_events_outputs_and_what_was_passed_over_come_back_as_they_were(made):
    indexes = list(range(0, made.events.size, 2))
    for index, body in zip(indexes, encode_each(made, indexes), strict=True):
        found = decode_chunk(body).executions
        for name in COLUMNS + MORE:
            assert found.events.column(name) == [made.events.column(name)[index]], name
        for step, column in made.outputs.items():
            assert found.outputs.get(step, [UNSET]) == [column[index]]
        assert found.details.get("shape", [None]) == [made.details["shape"][index]]
        assert found.keys == (None if made.keys is None else [made.keys[index]])
        passed = made.passed_over["shape"]
        assert (0 in found.passed_over.get("shape", {})) == (index in passed)
        assert found.execution_id(0) == made.execution_id(index)


def _made(raw):
    columns = {"raw": [b"1", raw], "id": ["a", "b"], "source": ["/s"] * 2, "type": ["t"] * 2}
    columns |= {"partition": ["0"] * 2, "position": ["1", "2"], "timestamp": [1.0, 2.0]}
    return Executions(Batch(2, columns, after={}), "copy")


def test_when_its_steps_ran_and_which_run_it_is_come_back():
    made = _made(b"2")
    made.took, made.took_before = {"a": (5.0, 0.25)}, {1: {"b": (1.0, 0.5)}}
    made.starts[1], made.runs[1] = 3.5, "replay-7"
    first, second = (decode_chunk(body).executions for body in encode_each(made, [0, 1]))
    assert second.took == {"a": (5.0, 0.25)}
    assert second.took_before == {0: {"b": (1.0, 0.5)}}
    assert (second.starts, second.runs) == ({0: 3.5}, {0: "replay-7"})
    assert (first.took_before, first.starts, first.runs) == ({}, {}, {})
    assert second.execution_id(0) == made.execution_id(1)


def test_a_long_event_is_compressed_and_a_short_one_is_not():
    short, long = encode_each(_made(b'"%s"' % (b"x" * 100_000)), [0, 1])
    assert b"\n1\n" in short
    assert len(long) < 2000
    assert decode_chunk(long).executions.events.column("data") == ["x" * 100_000]


def test_what_an_earlier_version_set_aside_is_read_as_well():
    made = _made(b"2")
    made.ended[0] = Ended("not_triggered")
    found = decode_chunk(encode_chunk(made, meta={})).executions
    assert found.events.column("raw") == [b"2"]


def test_an_output_that_is_not_json_breaks_nothing():
    made = _made(b"2")
    made.outputs["odd"] = [{"of": Decimal("1.10"), "n": 2**70}, UNSET]
    first, second = encode_each(made, [0, 1])
    assert decode_chunk(first).executions.outputs == {"odd": [{"of": "1.10", "n": 2**70}]}
    assert decode_chunk(second).executions.outputs == {}


def test_a_message_is_kept_for_the_copy_of_its_dead_letter():
    made = _made(b"2")
    arrival = Arrival("t", 0, 5, b"\xff", None, (("h", b"\x00"),))
    made.events.columns["arrival"] = [None, arrival]
    (body,) = encode_each(made, [1], with_arrivals=True)
    assert decode_chunk(body).executions.events.column("arrival") == [arrival]
