"""A topic is read by time: the events of a window, whatever partitions and timestamps there are."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.contracts import Opening, Shard, Surveying, Window
from connectors.errors import FatalError
from tests.connectors.kafka.driving import read, read_to_the_end, reading, source, wait_for, write

pytestmark = pytest.mark.kafka

HOUR = 3_600_000
BEGIN = int(time.time() * 1000) // 1000 * 1000 - 24 * HOUR
"""Yesterday: what is older than its retention, Kafka deletes."""


def at(hours):
    return BEGIN + int(hours * HOUR)


def fill(kafka, topic, *hours, partition=0, **more):
    """Write an event of each of these hours, in this order; its value is its hour."""
    for each in hours:
        write(kafka, topic, b"%g" % each, partition=partition, timestamp=at(each), **more)


@contextmanager
def opened(a_source, window, *, positions=None, shard=None):
    reader = a_source.open(Opening(shard or Shard(), positions or {}, window=window))
    try:
        yield reader
    finally:
        reader.close()


def hours_of(a_source, window, **more):
    with opened(a_source, window, **more) as reader:
        return [float(raw) for raw in read_to_the_end(reader).raws]


def committed(kafka, group, topic):
    client = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    try:
        return client.committed([TopicPartition(topic, 0)], 20)[0].offset
    finally:
        client.close()


def test_a_window_is_read_from_all_partitions_and_is_half_open(kafka):
    topic = kafka.create_topic(4)
    fill(kafka, topic, *range(0, 10, 2), partition=0)
    fill(kafka, topic, *range(1, 10, 2), partition=1)
    fill(kafka, topic, 0, partition=2)  # all of it is before, and partition 3 is empty
    found = hours_of(source(kafka, topic), Window(at(2), at(7)))
    assert sorted(found) == [2, 3, 4, 5, 6]
    found = hours_of(source(kafka, topic), Window(at(2) + 1, at(6)))
    assert sorted(found) == [3, 4, 5]


def test_a_window_past_the_end_and_one_before_the_beginning_are_empty(kafka):
    topic = kafka.create_topic(2)
    fill(kafka, topic, 1, 2)
    assert hours_of(source(kafka, topic), Window(at(10), at(20))) == []
    assert hours_of(source(kafka, topic), Window(at(-10), at(-5))) == []
    assert hours_of(source(kafka, topic), Window(at(2), at(20))) == [2]


def test_events_that_come_late_or_early_are_found(kafka):
    topic = kafka.create_topic()
    minute = 1 / 60
    fill(kafka, topic, 1, 3 + minute, 3 - minute, 3, 2, 2 - minute, 2 + minute)
    found = hours_of(source(kafka, topic), Window(at(2), at(3)))
    assert found == pytest.approx([3 - minute, 2, 2 + minute], rel=1e-4)


def test_the_time_of_an_event_is_its_envelopes_where_it_has_one(kafka):
    topic = kafka.create_topic()
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at(3) / 1000 - 1))
    envelope = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"%s","data":1}'
    headers = [("content-type", b"application/cloudevents+json")]
    write(kafka, topic, envelope % text.encode(), timestamp=at(3), headers=headers)
    with opened(source(kafka, topic), Window(at(2), at(3))) as reader:
        (event,) = read_to_the_end(reader).events
    assert (event.id, event.time) == ("1", text)
    assert hours_of(source(kafka, topic), Window(at(3), at(4))) == []


def test_shards_share_a_window_out(kafka):
    topic = kafka.create_topic(3)
    for partition in range(3):
        fill(kafka, topic, 1, 2, 3, partition=partition)
    shares = [
        hours_of(source(kafka, topic), Window(at(2), at(4)), shard=Shard(index, 2))
        for index in range(2)
    ]
    assert sorted(map(sorted, shares)) == [[2, 2, 3, 3], [2, 3]]


def test_reading_a_window_resumes_and_leaves_the_groups_offsets_alone(kafka):
    topic = kafka.create_topic()
    fill(kafka, topic, *range(10))
    a_source = source(kafka, topic, group=f"live-{topic}", start="earliest")
    with reading(a_source) as live:
        got = read(live, 3, limit=1)
        live.acknowledge(got.after)
        wait_for(lambda: committed(kafka, f"live-{topic}", topic) > 0, "the live commit")
    there = committed(kafka, f"live-{topic}", topic)
    window = Window(at(2), at(8))
    with opened(a_source, window) as reader:
        first = read(reader, 2, limit=1)
        reader.acknowledge(first.after)
    rest = hours_of(a_source, window, positions=first.after)
    assert [float(raw) for raw in first.raws] + rest == [2, 3, 4, 5, 6, 7]
    with opened(a_source, window) as reader:
        end = read_to_the_end(reader).after
        reader.acknowledge(end)
    assert hours_of(a_source, window, positions=end) == []
    assert committed(kafka, f"live-{topic}", topic) == there


# --- what is told of a window -------------------------------------------------------------------


def delete_before(kafka, topic, offset, partition=0):
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for answer in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        answer.result(20)


def test_a_survey_counts_by_offsets(kafka):
    topic = kafka.create_topic(2)
    fill(kafka, topic, *range(10))
    fill(kafka, topic, 5, partition=1)
    a_source = source(kafka, topic)
    assert isinstance(a_source, Surveying)
    found = a_source.survey(Window(at(2), at(6)))
    assert (found.events, found.exact, found.gaps) == (5, False, ())
    assert a_source.survey(Window(at(20), at(21))).events == 0


def test_what_retention_has_taken_of_a_window_is_a_gap(kafka):
    topic = kafka.create_topic(2)
    fill(kafka, topic, *range(10))
    fill(kafka, topic, 1, 2, partition=1)
    delete_before(kafka, topic, 4)
    delete_before(kafka, topic, 2, partition=1)
    a_source = source(kafka, topic)
    found = a_source.survey(Window(at(2), at(8)))
    gaps = {gap.reason.split(":")[0]: (gap.since, gap.until) for gap in found.gaps}
    assert gaps == {f"{topic}/0": (at(2), at(4)), f"{topic}/1": (at(2), at(8))}
    assert found.events == 4
    later = a_source.survey(Window(at(5), at(8)))
    assert [gap.reason.split(":")[0] for gap in later.gaps] == [f"{topic}/1"]


def test_what_is_deleted_between_two_halves_of_a_window_is_an_error(kafka):
    topic = kafka.create_topic()
    fill(kafka, topic, *range(10))
    a_source = source(kafka, topic, on_offset_gone="earliest")
    window = Window(at(2), at(8))
    with opened(a_source, window) as reader:
        first = read(reader, 1, limit=1)
    delete_before(kafka, topic, 6)
    with pytest.raises(FatalError) as caught:
        hours_of(a_source, window, positions=first.after)
    assert caught.value.code == "offset_gone"
