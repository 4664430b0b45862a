"""A pipeline that would feed itself is refused; one that bounds itself is not."""

from __future__ import annotations

import pytest

FLOW = """
    modules:
      - name: bus
        type: messaging.kafka
        config: {brokers: [k:9092], READ}
      - name: other
        type: sink.kafka
        config: {brokers: [OTHER], topic: orders}
    pipelines:
      p:
        trigger: {type: event, source: bus TRIGGER}
        steps:
          - {name: out, type: step.publish, config: {PUBLISH}}
"""


def flow(read, publish, trigger="", other="elsewhere:9092"):
    made = FLOW.replace("READ", read).replace("PUBLISH", publish).replace("OTHER", other)
    return made.replace("TRIGGER", trigger)


@pytest.mark.parametrize(
    ("read", "publish", "other"),
    [
        ("topic: orders", "sink: bus", "x:1"),
        ("topics: [a, orders]", "sink: bus, topic: orders", "x:1"),
        ("topics_regex: 'ord.*'", "sink: bus, topic: orders", "x:1"),
        ("topics: [orders], topic: orders", "sink: bus", "x:1"),
        ("topics: [orders]", "sink: other", "k:9092"),
    ],
)
def test_the_topic_that_is_read_is_not_published_to(refused, read, publish, other):
    said = refused(flow(read, publish, other=other))
    assert "out publishes to orders, the topic that pipeline p reads" in said
    assert "flow.yaml:12:" in said


def test_a_module_with_a_topic_alone_is_told_that_it_reads_it(refused):
    said = refused(flow("topic: orders", "sink: bus"))
    assert "bus reads its `topic:` too: add `topics: [...]`" in said


@pytest.mark.parametrize(
    ("read", "publish", "trigger"),
    [
        ("topics: [orders], topic: done", "sink: bus", ""),
        ("topic: orders", "sink: bus, topic: done", ""),
        ("topic: orders", "sink: other", ""),
        ("topic: orders", "sink: bus", ", event_type: order.created"),
        ("topic: orders", "sink: bus", ", when: '.data.retries < 3'"),
    ],
)
def test_other_topics_other_clusters_and_bounded_rounds_pass(load, read, publish, trigger):
    assert load(flow(read, publish, trigger)).pipelines


def test_a_kafka_module_that_names_nothing_to_read_is_refused_where_it_is_read(refused):
    said = refused(flow("group: g", "sink: other"))
    assert "flow.yaml:10:36: bus names no topics to read." in said
    source_alone = """
        modules:
          - {name: in, type: source.kafka, config: {brokers: [k:9092]}}
    """
    assert "flow.yaml:2:" in refused(source_alone)
