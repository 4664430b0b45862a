"""Sagas in tests of flows: compensations are mocked like steps, and what was undone is compared."""

from __future__ import annotations

from pathlib import Path

import pytest

STEPS = """
- name: reserve
  type: step.http_call
  config: { url: "http://h/reserve", method: POST }
  compensate:
    type: step.http_call
    config: { url: "http://h/release/{{ .steps.reserve.output.id }}", method: POST }
- name: charge
  type: step.http_call
  config: { url: "http://h/charge", method: POST }
  compensate: { type: step.publish, config: { sink: kafka, topic: refunds } }
- { name: ship, type: step.http_call, config: { url: "http://h/ship", method: POST } }
"""

PIPELINE = "trigger: { source: kafka }\nsaga: { enabled: true }"

MOCKS = {
    "reserve": {"output": {"id": 7}},
    "charge": {"output": {}},
    "ship": {"status": 409},
    "reserve.compensate": {"output": {}},
}


def test_what_a_failed_saga_has_undone_is_compared(project):
    case = {
        "data": {"order": 1},
        "mocks": MOCKS,
        "expect": {
            "outcome": "failed",
            "published": [{"sink": "kafka", "topic": "refunds"}],
            "dead_letters": [{"step": "ship", "compensated": ["charge", "reserve"]}],
            "assert": ['.dead_letters[0].compensated == ["charge", "reserve"]'],
        },
    }
    assert project.check(STEPS, case, pipeline=PIPELINE) == []


def test_what_was_not_undone_is_told(project):
    case = {
        "data": {"order": 1},
        "mocks": {**MOCKS, "reserve.compensate": {"status": 503}},
        "expect": {
            "outcome": "failed",
            "dead_letters": [{"compensated": ["charge", "reserve"]}],
        },
    }
    (failure,) = project.check(STEPS, case, pipeline=PIPELINE)
    assert "['charge', 'reserve'] ['charge']" in failure


def test_a_compensation_without_a_mock_is_the_cases_mistake(project):
    mocks = {name: mock for name, mock in MOCKS.items() if name != "reserve.compensate"}
    case = {"data": {}, "mocks": mocks, "expect": {"outcome": "failed"}}
    (failure,) = project.check(STEPS, case, pipeline=PIPELINE)
    assert "mocks: { reserve.compensate: { output: … } }" in failure


def test_events_of_one_key_do_not_wait_for_each_other_in_a_case(project):
    case = {
        "events": [{"data": {}, "key": "a"}, {"data": {}, "key": "a"}],
        "mocks": {**MOCKS, "ship": {"output": {}}},
        "expect": {"outcome": "done"},
    }
    assert project.check(STEPS, case, pipeline=PIPELINE) == []


EXAMPLES = Path(__file__).parents[1] / "spec" / "examples"


@pytest.mark.parametrize(
    ("name", "failing", "undone"),
    [
        ("saga-order", "create-shipment", ["charge-payment", "reserve-inventory"]),
        ("saga-travel", "book-car", ["book-hotel", "book-flight"]),
    ],
)
def test_an_example_of_a_saga_undoes_what_came_before_the_step_that_fails(
    project, name, failing, undone
):
    project.flow.write_text((EXAMPLES / f"{name}.yaml").read_text())
    steps = [*reversed(undone), failing]
    answer = "{ output: { booking_id: B1, reservation_id: R1 } }"
    mocks = [f"  {step}: {answer}" for step in steps if step != failing]
    mocks += [f"  {step}.compensate: {{ output: {{}} }}" for step in undone]
    mocks.append(f"  {failing}: {{ status: 422 }}")
    project.tests.write_text(
        "mocks:\n" + "\n".join(mocks) + "\n"
        "tests:\n"
        "  - name: it is undone, last step first\n"
        "    data: { order_id: o1, booking_id: b1, origin: TXL, destination: LIS, date: d, nights: 2 }\n"
        f"    expect: {{ outcome: failed, dead_letters: [ {{ step: {failing}, compensated: "
        f"[{', '.join(undone)}] }} ] }}\n"
    )
    assert project.failures() == []
