"""What is said about the mistakes that people make in their first flow files, word for word."""

from __future__ import annotations

from textwrap import dedent

import pytest

from flows.plan import FlowErrors

SQS = """
modules:
  - name: jobs
    type: source.aws_sqs
    config: {queue_url: "https://q.example/1"}
"""
PIPELINE = """
pipelines:
  p:
    trigger: {type: event, source: jobs}
    steps:
      - name: say
        type: step.log
        config: {message: hello}
"""

CASES = {
    "a key that is not known": (
        "nmae: shop\n",
        """
        flow.yaml:1:1: unknown key nmae.
          1 | nmae: shop
            | ^^^^
          Did you mean name?
        """,
    ),
    "a key that is like no other": (
        "state: {path: x}\n",
        """
        flow.yaml:1:9: unknown key path.
          1 | state: {path: x}
            |         ^^^^
          Valid here: url.
        """,
    ),
    "keys that are not indented below their parent": (
        SQS + "pipelines:\n  p:\n    trigger:\n    source: jobs\n    steps:\n"
        "      - {name: say, type: step.log, config: {message: hello}}\n",
        """
        flow.yaml:8:5: unknown key source.
          8 |     source: jobs
            |     ^^^^^^
          It belongs under trigger:, so indent it further than trigger.
        """,
    ),
    "a setting of the type beside config instead of in it": (
        (
            "modules:\n  - name: jobs\n    type: source.aws_sqs\n    queue_url: https://q/1\n"
            "    config: {}\n"
        ),
        """
        flow.yaml:4:5: unknown key queue_url.
          4 |     queue_url: https://q/1
            |     ^^^^^^^^^
          It belongs under config: of this source.aws_sqs.

        flow.yaml:5:5: queue_url is missing in config.
          5 |     config: {}
            |     ^^^^^^
          queue_url: URL of the queue; a name that ends in `.fifo` is read in order per message group.
        """,
    ),
    "a misspelt key that is required": (
        'modules:\n  - {name: jobs, type: source.aws_sqs, config: {queue_ur: "https://q/1"}}\n',
        """
        flow.yaml:2:49: unknown key queue_ur.
          2 |   - {name: jobs, type: source.aws_sqs, config: {queue_ur: "https://q/1"}}
            |                                                 ^^^^^^^^
          Did you mean queue_url?
        """,
    ),
    "a missing key": (
        "modules:\n  - type: sink.stdout\n",
        """
        flow.yaml:2:5: name is missing in this item.
          2 |   - type: sink.stdout
            |     ^
          name: The module's name, unique in the flow.
        """,
    ),
    "a duration without its unit": (
        "history: {retention: 30}\n",
        """
        flow.yaml:1:22: retention: expected a duration with its unit, such as 500ms, 30s, 5m, 24h or 7d; found the number 30.
          1 | history: {retention: 30}
            |                      ^^
        """,
    ),
    "a duration that is too short": (
        SQS.replace("}", ", visibility_timeout: 500ms}"),
        """
        flow.yaml:4:68: visibility_timeout: expected at least 1s; found "500ms".
          4 |     config: {queue_url: "https://q.example/1", visibility_timeout: 500ms}
            |                                                                    ^^^^^
        """,
    ),
    "text where a number belongs": (
        SQS.replace("}", ", receivers: many}"),
        """
        flow.yaml:4:59: receivers: expected a whole number; found "many".
          4 |     config: {queue_url: "https://q.example/1", receivers: many}
            |                                                           ^^^^
        """,
    ),
    "a number where text belongs": (
        "schemas:\n  a:\n    version: 1.0\n    data_schema: {}\n",
        """
        flow.yaml:3:14: version: expected text; found the number 1.0.
          3 |     version: 1.0
            |              ^^^
          Put it in quotes: "1.0".
        """,
    ),
    "a word that is none of the choices": (
        "log: {level: waring}\n",
        """
        flow.yaml:1:14: level: expected one of debug, info, warning, error; found "waring".
          1 | log: {level: waring}
            |              ^^^^^^
          Did you mean warning?
        """,
    ),
    "a mapping where a list belongs": (
        "modules:\n  name: jobs\n",
        """
        flow.yaml:1:1: modules: expected a list; found a mapping.
          1 | modules:
            | ^^^^^^^
        """,
    ),
    "a type that does not exist": (
        "modules:\n  - {name: cdc, type: source.postgres}\n",
        """
        flow.yaml:2:23: there is no type source.postgres.
          2 |   - {name: cdc, type: source.postgres}
            |                       ^^^^^^^^^^^^^^^
          Did you mean source.postgres_cdc?
        """,
    ),
    "a sink as a step": (
        PIPELINE.replace("step.log", "sink.slack").replace(
            "trigger: {type: event, source: jobs}", ""
        ),
        """
        flow.yaml:6:15: sink.slack is no type of step.
          6 |         type: sink.slack
            |               ^^^^^^^^^^
          Declare it under modules: and publish to it with a step of type step.publish.
        """,
    ),
    "a source that is not declared": (
        SQS.replace("jobs", "job") + PIPELINE,
        """
        flow.yaml:8:36: there is no module jobs.
          8 |     trigger: {type: event, source: jobs}
            |                                    ^^^^
          Did you mean job?
        """,
    ),
    "a source that is no source": (
        "modules:\n  - {name: jobs, type: sink.stdout}\n" + PIPELINE,
        """
        flow.yaml:6:36: jobs is a sink.stdout, not a source.
          6 |     trigger: {type: event, source: jobs}
            |                                    ^^^^
          Declare it under modules:, with a type such as source.postgres_cdc.
        """,
    ),
    "a schema that is not declared": (
        SQS
        + "schemas:\n  order.changed: {data_schema: {}}\n"
        + PIPELINE.replace("source: jobs}", "source: jobs, schema: order.change}"),
        """
        flow.yaml:10:50: there is no schema order.change.
          10 |     trigger: {type: event, source: jobs, schema: order.change}
             |                                                  ^^^^^^^^^^^^
          Did you mean order.changed?
        """,
    ),
    "two steps of one name": (
        SQS + PIPELINE + "      - {name: say, type: step.log, config: {message: again}}\n",
        """
        flow.yaml:13:16: step say is there twice; the first is on line 10.
          13 |       - {name: say, type: step.log, config: {message: again}}
             |                ^^^
          Steps of one pipeline have different names.
        """,
    ),
    "a step of no kind": (
        SQS + PIPELINE.replace("        type: step.log\n        config: {message: hello}\n", ""),
        """
        flow.yaml:10:9: expected either type, such as step.http_call, or use, the name of a step module.
          10 |       - name: say
             |         ^
        """,
    ),
    "a step that uses what is no step": (
        SQS + PIPELINE.replace("type: step.log", "use: jobs"),
        """
        flow.yaml:11:14: jobs is a source.aws_sqs, not a step.
          11 |         use: jobs
             |              ^^^^
          No step module is declared.
        """,
    ),
    "a route that leads backwards": (
        (
            "pipelines:\n  p:\n    steps:\n"
            "      - {name: first, type: step.log, config: {message: a}}\n"
            "      - name: choose\n        type: step.conditional\n"
            "        config: {field: data.kind, routes: {new: first, old: lst}}\n"
            "      - {name: last, type: step.log, config: {message: b}}\n"
        ),
        """
        flow.yaml:7:50: choose jumps back to first; a route leads to a later step.
          7 |         config: {field: data.kind, routes: {new: first, old: lst}}
            |                                                  ^^^^^
          Valid here: last.

        flow.yaml:7:62: there is no step lst.
          7 |         config: {field: data.kind, routes: {new: first, old: lst}}
            |                                                              ^^^
          Did you mean last?
        """,
    ),
    "a publish step that several sinks could take": (
        (
            "modules:\n  - {name: a, type: sink.stdout}\n  - {name: b, type: sink.stdout}\n"
            "pipelines:\n  p:\n    steps:\n      - {name: out, type: step.publish}\n"
        ),
        """
        flow.yaml:7:16: out does not say where to publish, and several sinks could take it: a, b.
          7 |       - {name: out, type: step.publish}
            |                ^^^
          Name one: sink: <module>.
        """,
    ),
    "a publish step without a topic, to a sink without one": (
        (
            'modules:\n  - {name: bus, type: sink.kafka, config: {brokers: "127.0.0.1:9092"}}\n'
            "pipelines:\n  p:\n    steps:\n      - {name: out, type: step.publish}\n"
        ),
        """
        flow.yaml:6:16: out names no topic, and its sink bus has no topic either.
          6 |       - {name: out, type: step.publish}
            |                ^^^
          Add topic: to the step's config.
        """,
    ),
    "an alert on a step that is not there": (
        (
            "pipelines:\n  p:\n    steps: [{name: say, type: step.log, config: {message: a}}]\n"
            "alerts:\n  - name: slow\n    pipeline: p\n    step: sey\n"
            "    condition: {metric: duration_p99, threshold: 100}\n    channels: [{type: slak}]\n"
        ),
        """
        flow.yaml:7:11: there is no step sey.
          7 |     step: sey
            |           ^^^
          Did you mean say?

        flow.yaml:9:23: type: expected one of slack, email, pagerduty, webhook; found slak.
          9 |     channels: [{type: slak}]
            |                       ^^^^
          Did you mean slack?
        """,
    ),
    "a JSON Schema that is none": (
        (
            "schemas:\n  a:\n    data_schema:\n      properties:\n        id: {type: strng}\n"
            "        at: {format: datetime}\n"
        ),
        """
        flow.yaml:5:20: not a valid JSON Schema: expected object, array, string, number, integer, boolean or null, found "strng".
          5 |         id: {type: strng}
            |                    ^^^^^
        """,
    ),
    "a JSON Schema within a step that is none": (
        (
            "pipelines:\n  p:\n    steps:\n      - name: check\n        type: step.validate\n"
            "        config:\n          schema:\n            properties:\n"
            "              id: {type: strng}\n              at: {type: string, format: datetime}\n"
        ),
        """
        flow.yaml:9:26: not a valid JSON Schema: expected object, array, string, number, integer, boolean or null, found "strng".
          9 |               id: {type: strng}
            |                          ^^^^^
        """,
    ),
    "a list instead of a flow": (
        "- method: GET\n",
        """
        flow.yaml:1:1: this is a list, not a flow file.
          1 | - method: GET
            | ^
          A flow file is a mapping with keys such as modules, schemas and pipelines.
        """,
    ),
    "a Kubernetes manifest": (
        "apiVersion: v1\nkind: Pod\n",
        """
        flow.yaml:1:1: this is a Kubernetes manifest (Pod), not a flow file.
          1 | apiVersion: v1
            | ^^^^^^^^^^
          A flow file is a mapping with keys such as modules, schemas and pipelines.
        """,
    ),
    "a tab": (
        "pipelines:\n\tp: {}\n",
        """
        flow.yaml:2:1: a tab is used to indent; YAML takes spaces only.
          2 |  p: {}
            | ^
          Replace the tab by spaces.
        """,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_said_in_plain_words(case, refused):
    text, expected = CASES[case]
    assert refused(text) == dedent(expected).strip()


def test_a_bad_jq_program_is_reported_at_the_place_in_it(refused):
    said = refused(
        SQS
        + PIPELINE.replace("source: jobs}", "source: jobs, when: '.data.total > > 1'}")
        + "      - name: shape\n        type: step.jq\n        config:\n          expression: |\n"
        "            {\n              id: .data.id,\n              total: )\n            }\n"
    )
    assert "flow.yaml:8:63: this jq program can't be compiled" in said
    assert "flow.yaml:19:22: this jq program can't be compiled" in said


def test_all_mistakes_of_all_files_are_reported_at_once_in_order(refused):
    said = refused("nmae: a\nlog: {level: x}\n", "histry: {}\n", "a: [\n")
    assert [line.split(" ")[0] for line in said.splitlines() if line.startswith("flow")] == [
        "flow.yaml:1:1:",
        "flow.yaml:2:14:",
        "flow1.yaml:1:1:",
        "flow2.yaml:2:1:",
    ]


def test_problems_are_available_as_values(load):
    with pytest.raises(FlowErrors) as caught:
        load("nmae: a\n")
    (problem,) = caught.value.as_list()
    assert problem["code"] == "unknown_key"
    assert (problem["line"], problem["column"], problem["hint"]) == (1, 1, "Did you mean name?")
    assert caught.value.code == "unknown_key"
    assert caught.value.kind == "usage"


def test_no_message_speaks_of_the_library_that_validates(refused):
    said = refused(
        "state: 5\nlog: []\nhistory: {max_size: -1, redact: 3}\nserver: {address: x}\n"
        "modules: [{name: q, type: source.aws_sqs, config: {queue_url: 5, receivers: [1], format: 1}}]\n"
        "scale: {tenant_quotas: {a: {rate_limit: 5, max_concurrent: 1.5}}}\n"
    )
    for word in (
        "pydantic",
        "Input should",
        "Value error",
        "valid dictionary",
        "type=",
        "://errors",
    ):
        assert word not in said


def test_a_bad_template_is_reported_at_the_place_in_it(refused):
    said = refused(SQS + PIPELINE.replace("hello", '"Order {{ .data.id | lowr }}"'))
    assert said == (
        "flow.yaml:12:48: this template can't be compiled: lowr/0 is not defined.\n"
        '  12 |         config: {message: "Order {{ .data.id | lowr }}"}\n'
        "     |                                                ^\n"
        "  Did you mean lower?"
    )


def test_steps_inside_steps_are_checked_alike(refused):
    said = refused(
        SQS
        + PIPELINE
        + """
      - name: each
        type: step.foreach
        config:
          collection: data.items
          steps:
            - {name: a, type: step.log, config: {mesage: "x"}}
            - name: b
              type: step.foreach
              config:
                collection: data.rows
                steps: [{name: c, type: step.lg}, {name: d, type: step.jq, config: {expression: "."}}]
      - name: by-kind
        type: step.branch
        config: {field: data.kind, branches: {a: [{type: step.set, config: {values: {a: "{{"}}}]}, merge_step: say}
"""
    )
    assert [line for line in said.splitlines() if line.startswith("flow")] == [
        "flow.yaml:19:50: unknown key mesage.",
        "flow.yaml:24:41: there is no type step.lg.",
        "flow.yaml:27:90: this template can't be compiled: {{ has no closing }}.",
        "flow.yaml:27:112: by-kind jumps back to say; a route leads to a later step.",
    ]


DEAD_LETTERS = """
modules:
  - {name: jobs, type: source.kafka, config: {brokers: "b:1", topics: [t]}}
  - {name: dead, type: sink.kafka, config: {brokers: "b:1"}}
  - {name: out, type: sink.stdout}
pipelines:
  p:
    trigger: {type: event, source: jobs}
    dead_letter: {sink: dead}
    steps: [{name: say, type: step.log, config: {message: hello}}]
"""


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ("{sink: dead}", "dead has no topic, so dead letters have nowhere to go in it."),
        ("{sink: daed}", "there is no module daed."),
        ("{sink: jobs}", "jobs is a source.kafka, not a sink."),
        ("{sink: out, enabled: false}", "there is nothing to copy to it:"),
    ],
)
def test_a_sink_that_dead_letters_can_not_be_copied_to_is_refused(refused, sink, message):
    assert message in refused(DEAD_LETTERS.replace("{sink: dead}", sink))
