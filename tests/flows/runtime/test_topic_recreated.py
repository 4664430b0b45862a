"""Whole flows whose topic was deleted, made anew and filled past where the old one was read to."""

import json

import pytest

from tests.chaos.worker_process import WorkerProcess
from tests.connectors.kafka.driving import write
from tests.connectors.kafka.test_recreated import make_anew
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def numbered(start, count):
    return [b'{"n":%d}' % n for n in range(start, start + count)]


def copying(flow, kafka, topic, sink, policy, **more):
    source = kafka_source(kafka, topic, on_offset_gone=policy)
    made = pipeline("orders", publish(sink["name"]), **more)
    flow.write(modules=[source, sink], pipelines={"copy": made})


def stopped_with(flow, *words):
    run = flow.start("--until-caught-up")
    assert run.wait() == 4, run.text()
    for word in words:
        assert word in run.text()


def numbers(flow):
    return sorted(line["data"]["n"] for line in flow.lines())


def test_a_flow_stops_until_it_is_told_where_to_go_on_and_shows_what_it_had_read(flow, kafka):
    topic, sink = kafka.create_topic(), file_sink(flow.folder)
    copying(flow, kafka, topic, sink, "fail")
    write(kafka, topic, *numbered(0, 100))
    flow.run()
    make_anew(kafka, topic, *numbered(1000, 250))
    for _ in range(2):
        stopped_with(flow, "offset_gone", "the position 100 is gone", "deleted and made anew")
    assert numbers(flow) == list(range(100))
    shown = flow.penstock("state", "show", str(flow.path), "-o", "json")
    (partition,) = json.loads(shown.stdout)[0]["partitions"]
    assert partition["position"].startswith(f"{100:020d}@")
    copying(flow, kafka, topic, sink, "earliest")
    flow.run()
    assert numbers(flow) == [*range(100), *range(1000, 1250)]
    write(kafka, topic, *numbered(1250, 5))
    copying(flow, kafka, topic, sink, "fail")
    flow.run()
    assert numbers(flow) == [*range(100), *range(1000, 1255)]


@pytest.mark.parametrize(
    "point", ["after_settle_before_checkpoint", "after_checkpoint_before_acknowledge"]
)
def test_a_kill_while_the_new_topic_is_read_loses_and_repeats_nothing_of_it(flow, kafka, point):
    topic, sink = kafka.create_topic(), file_sink(flow.folder)
    copying(flow, kafka, topic, sink, "earliest")
    write(kafka, topic, *numbered(0, 100))
    flow.run()
    make_anew(kafka, topic, *numbered(1000, 2500))
    worker = WorkerProcess(flow.path, "orders", fail_point=f"{point}:2", until_caught_up=True)
    assert worker.wait() == -9, worker.text()
    flow.run()
    assert numbers(flow) == [*range(100), *range(1000, 3500)]


def test_with_exactly_once_the_new_topic_is_published_once_and_whole(flow, kafka):
    topic, target = kafka.create_topic(2), kafka.create_topic()
    config = {"brokers": kafka.bootstrap, "topic": target, "publish_format": "json"}
    sink = {"name": "topic", "type": "sink.kafka", "config": config}
    copying(flow, kafka, topic, sink, "fail", delivery="exactly_once")
    for partition in range(2):
        write(kafka, topic, *numbered(0, 100), partition=partition)
    flow.run()
    make_anew(kafka, topic, *numbered(1000, 250), partitions=2)
    stopped_with(flow, "offset_gone", "deleted and made anew")
    copying(flow, kafka, topic, sink, "earliest", delivery="exactly_once")
    worker = WorkerProcess(
        flow.path, "orders", fail_point="after_commit_before_settle", until_caught_up=True
    )
    assert worker.wait() == -9, worker.text()
    flow.run()
    found = sorted(json.loads(m.value())["n"] for m in kafka.read_all(target, 700, 60))
    assert found == sorted([*range(100), *range(1000, 1250)] * 2)
