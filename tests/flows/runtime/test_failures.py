"""What becomes of events that fail: a dead letter each, and the flow goes on."""

from __future__ import annotations

import json
import re

import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, step
from tests.transforms.steps.answering import Answer, serving

pytestmark = pytest.mark.kafka

NEEDS_N = {
    "numbered": {
        "version": "1.0",
        "type": "json",
        "data_schema": {
            "type": "object",
            "required": ["n"],
            "properties": {"n": {"type": "integer"}},
        },
    }
}

GOOD = [b'{"n":1}', b'{"n":2}']
NOT_JSON = b"\xff{broken"
NOT_FITTING = b'{"n":"two"}'


@pytest.fixture
def topic(kafka):
    return kafka.create_topic()


@pytest.fixture
def write_flow(flow, kafka, topic):
    def write_flow(pipelines, **more):
        flow.write(
            modules=[
                kafka_source(kafka, topic),
                file_sink(flow.folder),
                file_sink(flow.folder, "second"),
            ],
            pipelines=pipelines,
            **more,
        )

    return write_flow


def numbers(flow, name="out"):
    return [line["data"]["n"] for line in flow.lines(name)]


def code(flow, name, text):
    (flow.folder / f"{name}.py").write_text(text)


def test_every_kind_of_failing_event_is_a_dead_letter_with_its_bytes(
    flow, kafka, topic, write_flow
):
    code(
        flow,
        "shape",
        "def check(data):\n"
        "    if data['n'] == 13:\n"
        "        raise ValueError('thirteen')\n"
        "    return data\n",
    )
    write(kafka, topic, GOOD[0], NOT_JSON, NOT_FITTING, b'{"n":13}', GOOD[1], key="k")
    write_flow(
        {
            "check": pipeline(
                "orders",
                step("shape", "python", {"function": "shape:check"}),
                publish("out"),
                trigger={"schema": "numbered"},
            )
        },
        schemas=NEEDS_N,
    )
    log = flow.run()
    assert numbers(flow) == [1, 2]
    letters = flow.letters()
    assert [(letter.error_code, letter.step) for letter in letters] == [
        ("data_not_json", None),
        ("schema_invalid", None),
        ("python_error", "shape"),
    ]
    assert letters[0].wire == NOT_JSON
    assert [json.loads(letter.event)["data"] for letter in letters[1:]] == [
        {"n": "two"},
        {"n": 13},
    ]
    assert "thirteen" in letters[2].error_message
    assert flow.totals() == {"check": (2, 3, 0)}
    assert log.count("dead letter") == 3
    shown = flow.told("dlq", "show", letters[2].id, str(flow.path))
    assert shown.returncode == 0
    assert "python_error" in shown.stdout


@pytest.mark.parametrize(
    ("on_invalid", "arrived", "totals"),
    [("skip", [1, 2], (2, 0, 1)), ("pass", [1, "two", 2], (3, 0, 0))],
)
def test_what_fails_its_schema_is_skipped_or_passed_if_asked(
    flow, kafka, topic, write_flow, *, on_invalid, arrived, totals
):
    write(kafka, topic, GOOD[0], NOT_FITTING, GOOD[1])
    write_flow(
        {
            "check": pipeline(
                "orders", publish("out"), trigger={"schema": "numbered"}, on_invalid=on_invalid
            )
        },
        schemas=NEEDS_N,
    )
    flow.catch_up()
    assert numbers(flow) == arrived
    assert flow.letters() == []
    assert flow.totals() == {"check": totals}


def test_calls_that_fail_are_dead_letters_and_those_to_be_skipped_are_not(
    flow, kafka, topic, write_flow
):
    bodies = {2: (500, b"{}"), 3: (404, b"{}"), 4: (200, b"{garbage")}

    def answer(seen):
        n = int(re.findall(r"\d+", seen.path)[-1])
        status, body = bodies.get(n, (200, b'{"name":"Ada"}'))
        return Answer(status, body, {"content-type": "application/json"})

    write(kafka, topic, *[b'{"n":%d}' % n for n in range(1, 6)])
    with serving() as server:
        server.answer = answer
        call = {"url": server.url + "/{{ .n }}", "method": "POST"}
        shape = step("shape", "jq", {"expression": "{n: .data.n, name: .steps.call.output.name?}"})
        write_flow(
            {
                "strict": pipeline(
                    "orders", step("call", "http_call", call), shape, publish("out")
                ),
                "lenient": pipeline(
                    "orders",
                    step("call", "http_call", call, on_error="skip"),
                    publish("second", data_from="trigger.data"),
                ),
            }
        )
        flow.catch_up()
    assert [(line["data"]["n"], line["data"]["name"]) for line in flow.lines()] == [
        (1, "Ada"),
        (5, "Ada"),
    ]
    assert numbers(flow, "second") == [1, 2, 3, 4, 5]
    letters = flow.letters()
    assert {letter.pipeline for letter in letters} == {"strict"}
    assert [json.loads(letter.event)["data"]["n"] for letter in letters] == [2, 3, 4]
    assert [letter.error_kind for letter in letters] == ["retryable", "permanent", "permanent"]
    assert {letter.step for letter in letters} == {"call"}
    assert flow.totals() == {"strict": (2, 3, 0), "lenient": (5, 0, 0)}


def test_conditions_and_jumps_choose_the_steps_of_each_event(flow, kafka, topic, write_flow):
    write(kafka, topic, *[b'{"n":%d}' % n for n in range(6)])
    mark = step("mark", "set", {"values": {"n": "{{ .data.n }}", "marked": True}}, skip_if=".n < 2")
    route = step("route", "conditional", {"condition": ".n >= 4", "then": "last"})
    write_flow(
        {
            "choose": pipeline(
                "orders",
                route,
                mark,
                step("twice", "set", {"values": {"n": "{{ .data.n * 2 }}"}}, **{"if": ".n == 3"}),
                publish("out", "last"),
            )
        }
    )
    flow.catch_up()
    assert [line["data"] for line in flow.lines()] == [
        {"n": 0},
        {"n": 1},
        {"n": 2, "marked": True},
        {"n": 6},
        {"n": 4},
        {"n": 5},
    ]
    assert flow.letters() == []


def test_without_dead_letters_it_stops_at_the_event_and_goes_on_from_there_when_mended(
    flow, kafka, topic, write_flow
):
    strict = "def check(data):\n    if data['n'] == 7:\n        raise ValueError\n    return data\n"
    code(flow, "shape", strict)
    write(kafka, topic, *[b'{"n":%d}' % n for n in range(10)])
    shape = step("shape", "python", {"function": "shape:check"})
    write_flow(
        {
            "stops": pipeline("orders", shape, publish("out"), dead_letter={"enabled": False}),
            "other": pipeline("orders", publish("second")),
        }
    )
    for _ in range(2):  # it stops there again until it is mended
        run = flow.start("--until-caught-up")
        assert run.wait() == 4, run.text()
        assert "error[dead_letter_disabled]" in run.text()
        assert "Traceback" not in run.text()
        assert flow.letters() == []
    code(flow, "shape", strict.replace("== 7", "== 77"))
    flow.catch_up()
    assert numbers(flow) == list(range(10))
    assert numbers(flow, "second") == list(range(10))
    assert flow.totals() == {"stops": (10, 0, 0), "other": (10, 0, 0)}


def test_a_failure_in_one_pipeline_is_no_concern_of_the_other(flow, kafka, topic, write_flow):
    write(kafka, topic, GOOD[0], NOT_FITTING, NOT_JSON, GOOD[1])
    write_flow(
        {
            "checked": pipeline("orders", publish("out"), trigger={"schema": "numbered"}),
            "some": pipeline("orders", publish("second"), trigger={"when": '.data.n != "two"'}),
        },
        schemas=NEEDS_N,
    )
    flow.catch_up()
    assert numbers(flow) == [1, 2]
    assert numbers(flow, "second") == [1, 2]
    assert flow.totals() == {"checked": (2, 2, 0), "some": (2, 1, 0)}
    found = [(letter.pipeline, letter.error_code) for letter in flow.letters()]
    assert sorted(found) == [
        ("checked", "data_not_json"),
        ("checked", "schema_invalid"),
        ("some", "data_not_json"),
    ]
