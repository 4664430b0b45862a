"""Cases run on the flow's own steps: what they see, what is mocked, what is compared."""

from __future__ import annotations

import pytest

from connectors.errors import FlowFileError
from flows.spec.problems import FlowErrors

SHAPE = "- { name: shape, type: step.jq, config: { expression: '{id: .data.id, twice: (.data.n * 2)}' } }"
PUBLISH = (
    "- { name: publish, type: step.publish, config: { sink: kafka, topic: shaped, type: t.made } }"
)
CALL = "- { name: call, type: step.http_call, config: { url: 'http://h/{{ .data.id }}' } }"


def test_a_case_that_holds_passes(project):
    case = {
        "data": {"id": 1, "n": 2},
        "expect": {
            "outcome": "done",
            "steps": {"shape": {"ran": True, "output": {"id": 1, "twice": 4}}},
            "published": [
                {
                    "sink": "kafka",
                    "topic": "shaped",
                    "step": "publish",
                    "type": "t.made",
                    "data": {"id": 1, "twice": 4},
                    "attributes": {"type": "t.made", "specversion": "1.0"},
                    "headers": {"ce_type": "t.made", "content-type": "application/json"},
                }
            ],
            "dead_letters": [],
            "assert": [".published[0].data.twice == 4", '.steps.shape.output | has("id")'],
        },
    }
    assert project.check(f"{SHAPE}\n{PUBLISH}", case) == []


@pytest.mark.parametrize(
    ("expect", "failure"),
    [
        (
            {"steps": {"shape": {"output": {"id": 1, "twice": 5}}}},
            "('expect', 'steps', 'shape', 'output', 'twice'):  5 4",
        ),
        (
            {"steps": {"shape": {"output": {"id": 1}}}},
            "('expect', 'steps', 'shape', 'output', 'twice'):  ABSENT 4",
        ),
        (
            {"steps": {"shape": {"output_contains": {"x": 1}}}},
            "('expect', 'steps', 'shape', 'output_contains', 'x'):  1 ABSENT",
        ),
        (
            {"steps": {"shape": {"ran": False}}},
            "('expect', 'steps', 'shape', 'ran'): event event-1",
        ),
        ({"published": []}, "('expect', 'published', 0): one published event more than expected"),
        (
            {"published": [{"key": "k"}]},
            "('expect', 'published', 0, 'key'):  'k' None",
        ),
        (
            {"published": [{}, {"data": 1}]},
            "('expect', 'published', 1): there is no such published event {'data': 1} ABSENT",
        ),
        (
            {"dead_letters": [{"code": "x"}]},
            "('expect', 'dead_letters', 0): there is no such dead letter {'code': 'x'} ABSENT",
        ),
        ({"outcome": "skipped"}, "('expect', 'outcome'): event event-1 'skipped' 'done'"),
        ({"assert": [".published[0].data.twice == 5"]}, "is not true 5 4"),
        ({"assert": [".steps.shape.output | .twice == .id"]}, "is not true 1 4"),
        ({"assert": ["empty"]}, "empty has no output"),
        ({"assert": [".published + 1"]}, "cannot be added"),
    ],
)
def test_what_does_not_hold_is_said_with_its_path(project, expect, failure):
    (found,) = project.check(f"{SHAPE}\n{PUBLISH}", {"data": {"id": 1, "n": 2}, "expect": expect})
    assert failure in found


def test_a_failed_event_fails_a_case_that_says_nothing_of_it(project):
    (found,) = project.check(SHAPE, {"data": {"id": 1, "n": {}}})
    assert found.startswith("('expect', 'outcome'): event event-1 at step shape: ")
    assert found.endswith("'done' 'failed'")


def test_expected_dead_letters_are_compared(project):
    case = {"data": {"n": {}}, "expect": {"dead_letters": [{"step": "shape", "code": "jq_error"}]}}
    assert project.check(SHAPE, case) == []
    case["expect"]["dead_letters"][0]["message_contains"] = "nothing of it"
    (found,) = project.check(SHAPE, case)
    assert "not in the message" in found


def test_several_events_go_in_one_batch_and_each_has_its_expectations(project):
    case = {
        "events": [
            {"data": {"id": 1, "n": 1}},
            {"data": {"id": 2, "n": {}}},
            {"id": "c", "raw": "{"},
        ],
        "expect": {
            "outcome": ["done", "failed", "failed"],
            "steps": {"shape": [{"output": {"id": 1, "twice": 2}}, {"ran": True}, {"ran": False}]},
            "dead_letters": [
                {"event_id": "c", "code": "data_not_json", "step": None},
                {"event_id": "event-2", "step": "shape"},
            ],
        },
    }
    assert project.check(SHAPE, case) == []


def test_a_step_that_reaches_outside_and_has_no_mock_is_an_error_that_says_what_to_write(project):
    (found,) = project.check(CALL, {"data": {"id": 1}})
    assert "step call (step.http_call) would reach outside" in found
    assert "mocks: { call: { output: … } }" in found


def test_a_step_that_is_not_reached_needs_no_mock(project):
    steps = CALL.replace("type:", "if: 'false', type:")
    case = {"data": {}, "expect": {"steps": {"call": {"ran": False}}}}
    assert project.check(steps, case) == []


def test_a_python_step_with_effects_needs_a_mock_and_one_without_runs(project):
    (project.folder / "penstock_testing_fns.py").write_text("def double(v):\n    return v * 2\n")
    steps = "- { name: f, type: step.python, config: { function: 'penstock_testing_fns:double' } }"
    assert project.check(steps, {"data": 2, "expect": {"steps": {"f": {"output": 4}}}}) == []
    effect = steps.replace(" } }", ", effect: true } }")
    (found,) = project.check(effect, {"data": 2})
    assert "would reach outside" in found


def test_a_mock_answers_with_output_status_and_headers(project):
    steps = f"""
{CALL}
- {{ name: see, type: step.jq, config: {{ expression: '[.steps.call | .output, .status, .headers.a]' }} }}
"""
    case = {
        "data": {"id": 1},
        "mocks": {"call": {"output": {"x": 1}, "status": 201, "headers": {"a": "b"}}},
        "expect": {
            "steps": {"call": {"status": 201}, "see": {"output": [{"x": 1}, 201, "b"]}},
        },
    }
    assert project.check(steps, case) == []


def test_a_mock_with_a_bad_status_fails_as_the_call_does(project):
    case = {
        "data": {"id": 7},
        "mocks": {"call": {"status": 503, "output": {"why": "busy"}}},
        "expect": {
            "dead_letters": [
                {
                    "step": "call",
                    "code": "http_status",
                    "kind": "retryable",
                    "message_contains": "GET http://h/7 answered 503",
                }
            ]
        },
    }
    assert project.check(CALL, case) == []


def test_a_mock_may_make_its_output_from_the_event(project):
    case = {
        "events": [{"data": {"id": 1}}, {"data": {"id": 2}}],
        "mocks": {"call": {"expression": '{name: "no \\(.data.id)"}'}},
        "expect": {
            "steps": {"call": [{"output": {"name": "no 1"}}, {"output": {"name": "no 2"}}]},
        },
    }
    assert project.check(CALL, case) == []


def test_a_mock_per_call_answers_in_order_and_says_when_it_is_used_up(project):
    case = {
        "events": [{"data": {"id": 1}}, {"data": {"id": 2}}],
        "mocks": {"call": [{"output": "a"}, {"error": {"code": "gone", "message": "no more."}}]},
        "expect": {
            "steps": {"call": [{"output": "a"}, {"error": {"code": "gone", "kind": "permanent"}}]},
            "dead_letters": [{"code": "gone", "message": "no more."}],
        },
    }
    assert project.check(CALL, case) == []
    del case["mocks"]["call"][1]
    (found,) = project.check(CALL, case)
    assert "the mock of step call has 1 answer, and it was called 2 times" in found


def test_a_mock_of_a_step_inside_another_is_named_by_both(project):
    steps = """
- name: lines
  type: step.foreach
  config:
    collection: .data.items
    steps: [ { name: price, type: step.http_call, config: { url: "http://h/{{ .item }}" } } ]
"""
    case = {
        "data": {"items": ["a", "b"]},
        "mocks": {"lines.price": [{"output": 1}, {"output": 2}]},
        "expect": {"steps": {"lines": {"output_contains": {"results": [1, 2]}}}},
    }
    assert project.check(steps, case) == []


def test_steps_in_branches_are_seen_by_their_names(project):
    steps = """
- name: route
  type: step.branch
  config:
    field: data.tier
    branches: { gold: [ { name: gift, type: step.set, config: { values: { for: "{{ .data.id }}" } } } ] }
"""
    case = {
        "events": [{"data": {"tier": "gold", "id": 1}}, {"data": {"tier": "tin", "id": 2}}],
        "expect": {"steps": {"gift": [{"ran": True, "output": {"for": 1}}, {"ran": False}]}},
    }
    assert project.check(steps, case) == []


def test_a_sink_that_refuses_makes_a_dead_letter_and_one_that_is_away_is_waited_for(project):
    refuses = {"error": {"code": "too_big", "kind": "permanent"}}
    away = {"error": {"code": "away", "kind": "retryable"}}
    case = {
        "data": {"id": 1},
        "mocks": {"publish": refuses},
        "expect": {"published": [], "dead_letters": [{"step": "publish", "code": "too_big"}]},
    }
    assert project.check(PUBLISH, case) == []
    case |= {"mocks": {"publish": [away, away, {}]}, "expect": {"published": [{"topic": "shaped"}]}}
    assert project.check(PUBLISH, case) == []
    case |= {
        "mocks": {"publish": away},
        "expect": {"outcome": "stopped", "stopped": {"code": "sink_unavailable"}},
    }
    assert project.check(PUBLISH, case) == []


def test_a_fatal_error_and_a_dead_letter_that_is_not_allowed_stop_the_worker(project):
    case = {
        "data": {"id": 1},
        "mocks": {"call": {"error": {"kind": "fatal", "code": "no_right"}}},
        "expect": {"outcome": "stopped", "stopped": {"code": "no_right", "kind": "fatal"}},
    }
    assert project.check(CALL, case) == []
    case = {"data": {"n": {}}, "expect": {"stopped": {"code": "dead_letter_disabled"}}}
    pipeline = "trigger: { source: kafka }\ndead_letter: { enabled: false }"
    assert project.check(SHAPE, case, pipeline=pipeline) == []


def test_what_does_not_trigger_and_what_is_skipped_have_their_outcomes(project):
    pipeline = """
        trigger: { source: kafka, schema: s, when: ".data.id != 3" }
        on_invalid: skip
    """
    modules = """
schemas: { s: { data_schema: { required: [id] } } }
modules:
  - { name: kafka, type: source.kafka, config: { brokers: "b:1", topics: [in] } }
"""
    case = {
        "events": [{"data": {"id": 3}}, {"data": {}}, {"data": {"id": 1, "n": 1}}],
        "expect": {"outcome": ["not_triggered", "skipped", "done"]},
    }
    assert project.check(SHAPE, case, pipeline=pipeline, modules=modules) == []


def test_a_change_is_an_event_as_the_slot_gives_it(project):
    steps = """
- name: see
  type: step.jq
  config: { expression: "{type, op: .operation, old: .before.n, new: .after.n, data: .data.n, subject}" }
"""
    case = {
        "events": [
            {"before": {"n": 1}, "after": {"n": 2}},
            {"after": {"n": 3}},
            {"before": {"n": 4}},
            {"operation": "READ", "after": {"n": 5}},
        ],
        "expect": {
            "steps": {
                "see": [
                    {"output": {"type": f"public.orders.{op.lower()}", "op": op, "old": old, "new": new,
                                "data": data, "subject": "public.orders"}}
                    for op, old, new, data in [
                        ("UPDATE", 1, 2, 2), ("INSERT", None, 3, 3), ("DELETE", 4, None, 4), ("READ", None, 5, 5)
                    ]
                ]
            }
        },
    }  # fmt: skip
    assert project.check(steps, case, pipeline="trigger: { source: changes }") == []


def test_a_change_has_the_data_that_the_sources_output_asks_for(project):
    modules = """
modules:
  - { name: changes, type: source.postgres_cdc, config: { connection: "postgresql://u@h/d", slot_name: s,
      tables: [ { table: a }, { schema: s, table: b } ], output: { include_before: true, include_after: true } } }
"""
    steps = "- { name: see, type: step.jq, config: { expression: '[.type, .data]' } }"
    event = {"table": "s.b", "before": {"n": 1}, "after": {"n": 2}}
    output = ["s.b.update", {"before": {"n": 1}, "after": {"n": 2}}]
    case = {"event": event, "expect": {"steps": {"see": {"output": output}}}}
    assert (
        project.check(steps, case, pipeline="trigger: { source: changes }", modules=modules) == []
    )
    del event["table"]
    (found,) = project.check(steps, case, pipeline="trigger: { source: changes }", modules=modules)
    assert "Add `table: schema.table`; the source reads public.a, s.b." in found


def test_events_have_the_same_defaults_in_every_run(project):
    steps = "- { name: see, type: step.jq, config: { expression: '[.id, .source, .type, .time]' } }"
    first = ["event-1", "/kafka/in", "in.message", "2026-01-01T00:00:00Z"]
    second = ["e2", "/s", "t", "2026-02-02T00:00:00Z"]
    case = {
        "events": [
            {"data": 1},
            {"data": 1, "id": "e2", "source": "/s", "type": "t", "time": "2026-02-02T00:00:00Z"},
        ],
        "expect": {"steps": {"see": [{"output": first}, {"output": second}]}},
    }
    assert project.check(steps, case) == []


def test_integers_of_any_size_stay_exact_from_event_to_expectation(project):
    big = 12345678901234567890123
    steps = "- { name: publish, type: step.publish, config: { sink: kafka } }"
    case = {"data": {"n": big}, "expect": {"published": [{"topic": "out", "data": {"n": big}}]}}
    assert project.check(steps, case) == []


def test_what_a_flow_logs_is_not_written_and_can_be_asserted(project, capsys):
    steps = '- { name: say, type: step.log, config: { message: "hello {{ .data.name }}" } }'
    case = {"data": {"name": "Ada"}, "expect": {"assert": ['.logs[0].event == "hello Ada"']}}
    assert project.check(steps, case) == []
    assert capsys.readouterr() == ("", "")


def test_a_pipeline_that_nothing_triggers_can_be_tested(project):
    case = {"data": {"id": 1, "n": 1}, "expect": {"published": [{"data_contains": {"id": 1}}]}}
    assert project.check(f"{SHAPE}\n{PUBLISH}", case, pipeline="order: key") == []


def test_data_that_is_no_json_passes_where_it_passes_in_a_run(project):
    passes = "- { name: publish, type: step.publish, config: { sink: kafka } }"
    case = {"event": {"raw": "not json"}, "expect": {"published": [{"data": "not json"}]}}
    assert project.check(passes, case) == []
    case["expect"] = {"published": [], "dead_letters": [{"code": "data_not_json", "step": None}]}
    assert project.check(f"{SHAPE}\n{PUBLISH}", case) == []


def test_what_run_would_refuse_is_refused(project):
    steps = "- { name: asked, type: step.db_query, config: { database: shop, query: SELECT 1 } }"
    with pytest.raises(FlowErrors, match="not built"):
        project.check(steps, {"data": 1})


def test_a_step_that_cannot_be_made_is_an_error_of_the_flow(project):
    steps = "- { name: f, type: step.python, config: { function: 'penstock_no_such_module:f' } }"
    with pytest.raises(FlowFileError, match="there is no Python module"):
        project.check(steps, {"data": 1})
