"""An outbox loads where a transaction holds both the change and its event, and only there."""

from __future__ import annotations

import pytest

from flows.plan import not_built

FLOW = """
    modules:
      - {name: bus, type: messaging.kafka, config: {brokers: k:9092, topics: [in]}}
      - {name: lines, type: sink.file, config: {path: out.jsonl}}
    pipelines:
      p:
        trigger: {source: bus}
        steps:
          - {name: shape, type: step.jq, config: {expression: .data}}
          - name: book
            type: step.db_exec
            config: {database: "postgresql://db/shop", query: "DELETE FROM t"}
          - name: first
            type: step.publish
            config: {sink: bus, topic: a, outbox: {step: book}}
          - name: second
            type: step.publish
            if: ".steps.book.output.affected_rows > 0"
            config: {sink: bus, topic: b, outbox: {step: book}}
"""


def test_a_database_step_has_the_publish_steps_right_behind_it(load):
    plan = load(FLOW)
    assert not_built(plan) == []
    shape, book, first, _ = plan.pipeline("p").steps
    assert [step.name for step in book.publishes] == ["first", "second"]
    assert (shape.publishes, first.outbox, book.outbox) == ((), "penstock_outbox", None)


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        ("outbox: {step: book}", "outbox: {step: shape}", "is no step.db_exec right before it"),
        ("outbox: {step: book}", "outbox: {step: nobody}", "is no step.db_exec right before it"),
        (
            "          - name: first\n",
            "          - {name: between, type: step.log}\n          - name: first\n",
            "is no step.db_exec right before it",
        ),
        ("postgresql://db/shop", "sqlite:///shop.db", "is no PostgreSQL"),
        ("sink: bus, topic: a", "sink: lines", "lines, a sink.file, which undoes after a crash"),
        ("            type: step.db_exec\n", "            type: step.db_exec\n            on_error: skip\n", "book has on_error: skip"),
        ("            type: step.db_exec\n", "            type: step.db_exec\n            if: .data.x\n", "book has if"),
        ('query: "DELETE FROM t"', 'query: "DELETE FROM t", ignore_error: true', "book has ignore_error"),
        ("            if: ", "            on_error: skip\n            if: ", "second has on_error: skip"),
        ("topic: b, outbox: {step: book}", "topic: b, outbox: {step: book, table: other}", "from two tables: other and penstock_outbox"),
        ("topic: a, outbox", "topic: a, idempotent: true, outbox", "idempotent: true on step book"),
        ("{step: book}", "{step: book, table: 'Bad Name'}", "a table's name of small letters"),
        ("        steps:\n", "        saga: {enabled: true}\n        steps:\n", "a saga that undoes the change"),
        ("        steps:\n", "        delivery: exactly_once\n        steps:\n", "can't be part of one of Kafka's"),
    ],
)  # fmt: skip
def test_what_would_go_round_the_transaction_is_refused(refused, changed, to, said):
    assert changed in FLOW
    assert said in refused(FLOW.replace(changed, to, 1))


def test_inside_another_step_there_is_no_outbox(refused):
    loop = """
          - name: each
            type: step.foreach
            config:
              items: ".data.lines"
              steps:
                - {name: book2, type: step.db_exec, config: {database: "postgresql://db/shop", query: "DELETE FROM t"}}
                - {name: tell, type: step.publish, config: {sink: bus, topic: a, outbox: {step: book2}}}
"""
    assert "and not inside another step" in refused(FLOW.rstrip() + loop)
