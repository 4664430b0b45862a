"""What a flow file says about sagas is in force, or refused with its place."""

from __future__ import annotations

import pytest

from flows.plan import FlowErrors

FLOW = """
    modules:
      - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:9092", topic: t}}
    pipelines:
      p:
        trigger: {source: jobs}
        saga: {enabled: true, timeout: 30s}
        retry: {max_attempts: 7}
        steps:
          - name: book
            type: step.http_call
            config: {url: "http://h/book", method: POST}
            compensate:
              type: step.http_call
              config: {url: "http://h/cancel", method: POST, body_from: steps.book.output}
              retry: {initial_delay: 5s}
              timeout: 3s
          - name: pay
            type: step.http_call
            config: {url: "http://h/pay", method: POST}
            compensate: {type: step.http_call, config: {url: "http://h/refund", method: POST}}
"""


def said(load, text) -> list[tuple[int, str, str]]:
    with pytest.raises(FlowErrors) as caught:
        load(text)
    return [(each.line, each.code, each.message) for each in caught.value.problems]


def test_a_compensation_is_a_step_with_retries_of_its_own(load):
    plan = load(FLOW).pipeline("p")
    assert plan.saga is not None
    assert plan.saga.timeout == 30.0
    undo = plan.steps[0].compensate
    assert (undo.name, undo.type, undo.settings.timeout) == (
        "book.compensate",
        "step.http_call",
        3.0,
    )
    assert (undo.retry.max_attempts, undo.retry.initial_delay) == (7, 5.0)
    assert plan.places == ["book", "pay", "book.compensate", "pay.compensate"]
    assert plan.places[undo.number] == undo.name


def test_a_compensation_has_some_tries_though_nobody_says_so(load):
    plan = load(FLOW.replace("        retry: {max_attempts: 7}\n", "")).pipeline("p")
    assert plan.steps[1].retry is None
    assert plan.steps[1].compensate.retry.max_attempts == 3


@pytest.mark.parametrize(
    ("order", "names"),
    [("reverse", ["pay.compensate", "book.compensate"]), ("forward", ["book.compensate", "pay.compensate"])],
)  # fmt: skip
def test_the_order_of_compensations_is_as_the_saga_says(load, order, names):
    text = FLOW.replace("timeout: 30s}", f"compensation_order: {order}}}")
    assert [step.name for step in load(text).pipeline("p").compensations()] == names


def test_a_saga_that_is_switched_off_undoes_nothing(load):
    plan = load(FLOW.replace("enabled: true", "enabled: false")).pipeline("p")
    assert plan.saga is None
    assert plan.compensations() == []


def test_a_compensation_without_a_saga_is_refused(load):
    text = FLOW.replace("        saga: {enabled: true, timeout: 30s}\n", "")
    assert [(line, code) for line, code, _ in said(load, text)] == [
        (11, "saga_not_enabled"),
        (19, "saga_not_enabled"),
    ]


def test_a_saga_that_does_not_say_whether_it_is_enabled_is_refused(load):
    ((line, code, message),) = said(load, FLOW.replace("enabled: true, ", ""))
    assert (line, code) == (6, "saga_not_enabled")
    assert "pipeline p is not enabled" in message


def test_a_compensation_that_reads_the_output_of_no_step_is_refused(load):
    ((line, code, message),) = said(load, FLOW.replace("steps.book.output", "steps.bock.output"))
    assert (line, code) == (14, "unknown_step")
    assert message.startswith("the compensation of step book reads steps.bock.output")
