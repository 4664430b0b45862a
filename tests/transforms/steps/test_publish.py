from __future__ import annotations

import json

import orjson
import pytest

from connectors.batch import Change
from connectors.contracts import SinkOpening
from connectors.errors import PermanentError, RetryableError
from connectors.file import SINK_FILE
from schema_registry.validation import Validator
from transforms.executions import UNSET


@pytest.fixture
def publish(make, sink):
    def publish_step(*, earlier=(), schema=None, **config):
        def validator(name):
            return Validator(schema)

        config = {"sink": "out", **config}
        if schema is not None:
            config["schema"] = "order"
        return make("publish", config, earlier=earlier, sinks={"out": sink}, validator=validator)

    return publish_step


def attributes_of(delivery, place):
    found = delivery.attributes()
    return {
        name: value[place] if isinstance(value, list) else value for name, value in found.items()
    }


def test_without_steps_before_it_the_bytes_that_came_go_out_undecoded(publish, sink, executions):
    batch = executions({"a": 1}, {"a": 2}, raw=[b'{ "a": 1 }', b"not json at all"])
    publish().run(batch, range(2))
    assert list(sink.deliveries[0].values) == [b'{ "a": 1 }', b"not json at all"]
    assert "data" not in batch.events.columns
    assert not batch.failures


def test_an_event_whose_data_turns_out_unreadable_here_fails_and_is_no_tombstone(
    publish, sink, executions
):
    batch = executions({"a": 1}, {"a": 2})
    unreadable = PermanentError("the row can't be read.", code="row_unreadable")

    def raw(events):
        events.errors[0] = unreadable
        return [None, b'{"a":2}']

    batch.events.columns.pop("raw", None)
    batch.events.makers = {**batch.events.makers, "raw": raw}
    publish().run(batch, range(2))
    assert batch.failures == {0: unreadable}
    assert list(sink.deliveries[0].values) == [b'{"a":2}']


def test_the_last_output_goes_out_and_history_gets_its_text(publish, sink, executions):
    batch = executions({}, {}, outputs={"one": [1, 2], "two": [{"b": 1}, None]})
    publish(earlier=["one", "two"]).run(batch, range(2))
    assert list(sink.deliveries[0].values) == [b'{"b":1}', b"null"]
    assert batch.encoded["two"] == [b'{"b":1}', b"null"]


def test_where_the_last_step_did_not_run_the_one_before_it_counts(publish, sink, executions):
    batch = executions("a", "b", "c", outputs={"one": [1, 2, UNSET], "two": [UNSET, "two", UNSET]})
    publish(earlier=["one", "two"]).run(batch, range(3))
    assert list(sink.deliveries[0].values) == [b"1", b'"two"', b'"c"']
    assert not batch.encoded


def test_outputs_of_a_part_of_the_batch_are_not_taken_for_all_of_it(publish, sink, executions):
    batch = executions("a", "b", "c", outputs={"one": [1, 2, 3]})
    publish(earlier=["one"]).run(batch, [0, 2])
    assert list(sink.deliveries[0].values) == [b"1", b"3"]
    assert not batch.encoded


@pytest.mark.parametrize("path", ["trigger.data", "data", ".data"])
def test_the_triggers_data_may_be_named(publish, sink, executions, path):
    batch = executions("a", outputs={"one": [1]})
    publish(earlier=["one"], data_from=path).run(batch, range(1))
    assert list(sink.deliveries[0].values) == [b'"a"']


def test_a_named_output_that_is_not_there_fails_its_event_alone(publish, sink, executions):
    batch = executions("a", "b", outputs={"one": [UNSET, 2]})
    publish(earlier=["one"], data_from="steps.one.output").run(batch, range(2))
    assert list(sink.deliveries[0].values) == [b"2"]
    assert batch.failures[0].code == "nothing_to_publish"


def test_a_part_of_an_output_may_be_named(publish, sink, executions):
    batch = executions("a", outputs={"one": [{"deep": [7]}]})
    publish(earlier=["one"], data_from="steps.one.output.deep[0]").run(batch, range(1))
    assert list(sink.deliveries[0].values) == [b"7"]


def test_an_event_without_data_stays_one(publish, sink, executions):
    batch = executions(None)
    publish().run(batch, range(1))
    assert list(sink.deliveries[0].values) == [None]


def test_what_does_not_fit_the_schema_fails_before_the_sink_sees_it(publish, sink, executions):
    schema = {"type": "object", "required": ["id"]}
    batch = executions({"id": 1}, {}, {"id": 3})
    publish(schema=schema).run(batch, range(3))
    assert list(sink.deliveries[0].values) == [b'{"id":1}', b'{"id":3}']
    assert isinstance(batch.failures[1], PermanentError)
    assert batch.failures[1].code == "schema_invalid"
    assert "id" in batch.failures[1].context["problems"][0]


def test_outputs_are_checked_by_the_schema_again_when_they_are_encoded_already(
    publish, sink, executions
):
    batch = executions({}, outputs={"one": [1]})
    publish(earlier=["one"]).run(batch, range(1))
    publish(earlier=["one"], schema={"type": "string"}).run(batch, range(1))
    assert batch.failures[0].code == "schema_invalid"
    assert len(sink.deliveries) == 1


def test_an_output_that_json_does_not_have_fails_its_event_alone(publish, sink, executions):
    loop: list = []
    loop.append(loop)
    batch = executions(1, 2, 3, 4, outputs={"one": [object(), 2**70, loop, "\ud800"]})
    publish(earlier=["one"]).run(batch, range(4))
    assert [json.loads(value) for value in sink.deliveries[0].values] == [2**70, "\ud800"]
    assert {k: e.code for k, e in batch.failures.items()} == dict.fromkeys(
        (0, 2), "data_not_json_safe"
    )
    assert not batch.encoded


def test_a_redelivered_event_is_published_under_the_same_id(publish, sink, executions):
    step = publish()
    step.run(executions("a", "b"), range(2))
    step.run(executions("a", "b", "c", source=["/shop", "/shop", "/other"]), [1, 2])
    first, second = (delivery.attributes()["id"] for delivery in sink.deliveries)
    assert first[1] == second[0]
    assert len({*first, *second}) == 3
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in first)


def test_steps_and_pipelines_have_ids_of_their_own(make, sink, executions):
    for name, pipeline in (("a", "p"), ("b", "p"), ("a", "q")):
        step = make("publish", {"sink": "out"}, sinks={"out": sink}, name=name, pipeline=pipeline)
        step.run(executions("x"), range(1))
    assert len({delivery.attributes()["id"][0] for delivery in sink.deliveries}) == 3


def test_the_envelope_keeps_what_still_holds(publish, sink, executions):
    batch = executions(
        {"id": 1},
        {"id": 2},
        key=["k1", None],
        subject=["orders/1", "orders/2"],
        time=["2026-11-01T00:00:00Z", "2026-11-01T00:00:01Z"],
        extensions=[
            {"traceparent": "00-a-b-01", "operation": "INSERT", "sequence": "1", "mine": "x"},
            {},
        ],
        change=[Change("INSERT", None, {"id": 1}), Change("INSERT", None, {"id": 2})],
    )
    publish().run(batch, range(2))
    first, second = (attributes_of(sink.deliveries[0], place) for place in range(2))
    assert first.pop("id") != second.pop("id")
    assert first == {
        "source": "/penstock/shop/orders",
        "type": "order.changed",
        "subject": "orders/1",
        "time": "2026-11-01T00:00:00Z",
        "datacontenttype": "application/json",
        "partitionkey": "k1",
        "traceparent": "00-a-b-01",
        "operation": "INSERT",
        "sequence": "1",
    }
    assert second["traceparent"] is None
    assert second["partitionkey"] is None


def test_data_that_is_passed_on_keeps_the_content_type_that_says_how_to_read_it(
    publish, sink, executions
):
    batch = executions("aGk=", {"a": 1}, datacontenttype=["image/png", None])
    publish().run(batch, range(2))
    assert sink.deliveries[0].attributes()["datacontenttype"] == ["image/png", "application/json"]


def test_the_type_may_be_a_template(publish, sink, executions):
    batch = executions({"status": "paid"}, {}, {"status": "sent"})
    publish(type="order.{{ .data.status }}").run(batch, range(3))
    assert sink.deliveries[0].attributes()["type"] == ["order.paid", "order.sent"]
    assert list(batch.failures) == [1]


def test_a_plain_type_is_one_for_all(publish, sink, executions):
    publish(type="order.enriched").run(executions(1, 2), range(2))
    assert sink.deliveries[0].attributes()["type"] == "order.enriched"


def test_the_key_is_the_events_own_or_what_jq_says(publish, sink, executions):
    batch = executions({"n": 7}, {"n": "x"}, {"n": None}, key=["a", "b", "c"])
    publish().run(batch, range(3))
    publish(key=".data.n").run(batch, range(3))
    assert list(sink.deliveries[0].keys) == ["a", "b", "c"]
    assert list(sink.deliveries[1].keys) == ["7", "x", None]


def test_what_the_sink_refuses_fails_the_right_events(publish, sink, executions):
    away = RetryableError("away.", code="sink_away")
    sink.errors = {0: away}
    batch = executions("a", {}, "c", "d", outputs={"one": [1, object(), 3, 4]})
    publish(earlier=["one"]).run(batch, [1, 2, 3])
    assert batch.failures[2] is away
    assert set(batch.failures) == {1, 2}


def test_a_batch_in_which_all_fail_never_reaches_the_sink(publish, sink, executions):
    publish(schema=False).run(executions("a", "b"), range(2))
    assert sink.deliveries == []


def test_a_templated_topic_is_refused_when_the_flow_is_loaded(publish):
    with pytest.raises(ValueError, match="a template can't be used here"):
        publish(topic="orders.{{ .type }}")


def test_a_file_has_the_envelope_on_each_line(make, executions, tmp_path):
    settings = SINK_FILE.settings.model_validate({"path": str(tmp_path / "out.jsonl")})
    sink = SINK_FILE.sink("out", settings)
    sink.open(SinkOpening(state={}))
    step = make("publish", {"sink": "out", "type": "t"}, sinks={"out": sink}, earlier=["shape"])
    batch = executions({"id": 1}, {"id": 2}, outputs={"shape": [{"n": 1}, {"n": 2}]})
    step.run(batch, range(2))
    sink.close()
    lines = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert [(line["type"], line["data"]) for line in lines] == [("t", {"n": 1}), ("t", {"n": 2})]
    assert not batch.failures


def test_what_does_not_fit_is_left_out_or_published_if_asked(publish, sink, executions):
    schema = {"properties": {"a": {"type": "integer"}}}
    values = [{"a": 1}, {"a": "two"}, {"a": 3}]
    for on_invalid, failed, passed_over, delivered in (
        ("dead_letter", [1], [], [1, 3]),
        ("skip", [], [1], [1, 3]),
        ("pass", [], [], [1, "two", 3]),
    ):
        sink.deliveries.clear()
        batch = executions(*values)
        publish(schema=schema, on_invalid=on_invalid).run(batch, range(3))
        assert list(batch.failures) == failed
        left_out = {k: v for found in batch.passed_over.values() for k, v in found.items()}
        assert list(left_out) == passed_over
        assert all(error.code == "schema_invalid" for error in left_out.values())
        assert [orjson.loads(v)["a"] for v in sink.deliveries[0].values] == delivered
