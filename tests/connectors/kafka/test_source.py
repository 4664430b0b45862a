"""Where the source reads: positions, shards, partitions that come, offsets that are gone."""

import threading

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.contracts import Opening, Shard
from connectors.errors import FatalError
from tests.connectors.kafka.driving import (
    offsets,
    read,
    read_to_the_end,
    read_until,
    reading,
    source,
    wait_for,
    write,
)

pytestmark = pytest.mark.kafka


def numbered(count, start=0):
    return [b'{"n":%d}' % n for n in range(start, start + count)]


def numbers(got):
    return [event.data["n"] for event in got.events]


def delete_before(kafka, topic, offset, partition=0):
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    asked = TopicPartition(topic, partition, offset)
    for answer in admin.delete_records([asked]).values():
        answer.result(20)


def committed_end(kafka, topic):
    looking = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "looking"})
    _, end = looking.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
    looking.close()
    return end


def position(offset):
    return f"{offset:020d}"


def test_the_first_batch_is_the_start_itself_so_that_a_restart_misses_nothing(kafka):
    topic = kafka.create_topic(2)
    write(kafka, topic, b'{"n":0}', partition=0)
    with reading(source(kafka, topic, start="latest")) as reader:
        first = reader.poll(1000, 0.1)
    assert first.size == 0
    assert offsets(first.after) == {f"{topic}/0": position(1), f"{topic}/1": position(0)}
    # It stopped before any event; what comes now is not lost, though the start is `latest`.
    write(kafka, topic, b'{"n":1}', partition=1)
    with reading(source(kafka, topic, start="latest"), first.after) as reader:
        assert numbers(read(reader, 1)) == [1]


def test_reading_goes_on_at_a_half_acknowledged_point(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(10))
    with reading(source(kafka, topic)) as reader:
        got = read_until(reader, lambda got: len(got.events) >= 4, limit=4)
        half = got.events[1].position
        reader.acknowledge({f"{topic}/0": half})
    with reading(source(kafka, topic), {f"{topic}/0": half}) as reader:
        assert numbers(read(reader, 8)) == list(range(2, 10))


def test_positions_are_unique_and_ordered_and_a_batch_ends_with_its_checkpoint(kafka):
    topic = kafka.create_topic(3)
    for partition in range(3):
        write(kafka, topic, *numbered(50), partition=partition)
    with reading(source(kafka, topic)) as reader:
        got = read(reader, 150, limit=7)
    assert all(batch.size <= 7 for batch in got.batches)
    for partition in range(3):
        events = [e for e in got.events if e.partition == f"{topic}/{partition}"]
        places = [e.position for e in events]
        assert places == sorted(set(places))
        assert [e.data["n"] for e in events] == list(range(50))
    for batch in got.batches:
        last = dict(zip(batch.column("partition"), batch.column("position"), strict=True))
        assert offsets(batch.after) == last


def test_a_first_event_is_handed_over_without_waiting_for_more(kafka):
    topic = kafka.create_topic()
    with reading(source(kafka, topic)) as reader:
        read_until(reader, lambda got: got.after)  # the start
        handed_over = []
        polling = threading.Thread(target=lambda: handed_over.append(reader.poll(1000, 60)))
        polling.start()
        write(kafka, topic, b'{"n":0}')
        polling.join(20)  # far less than the poll's timeout
        assert not polling.is_alive()
        assert handed_over[0].size == 1


def test_shards_take_all_partitions_between_them_and_none_twice(kafka):
    topics = [kafka.create_topic(3), kafka.create_topic(2), kafka.create_topic(1)]
    for topic, count in zip(topics, (3, 2, 1), strict=True):
        for partition in range(count):
            write(kafka, topic, b"{}", partition=partition)
    seen = []
    for index in range(4):
        with reading(source(kafka, *topics), shard=Shard(index, 4), until_caught_up=True) as reader:
            seen += [event.partition for event in read_to_the_end(reader).events]
    assert len(seen) == 6
    assert len(set(seen)) == 6


def test_a_partition_added_while_running_is_read_from_its_beginning(kafka):
    topic = kafka.create_topic(1)
    with reading(source(kafka, topic, start="latest")) as reader:
        read_until(reader, lambda got: got.after)
        kafka.add_partitions(topic, 3)
        write(kafka, topic, b'{"n":1}', partition=1)
        write(kafka, topic, b'{"n":2}', partition=2)
        write(kafka, topic, b'{"n":0}', partition=0)
        got = read(reader, 3)
    assert sorted(numbers(got)) == [0, 1, 2]
    assert set(got.after) == {f"{topic}/{n}" for n in range(3)}


def test_a_partition_added_while_stopped_is_read_from_its_beginning(kafka):
    topic = kafka.create_topic(1)
    with reading(source(kafka, topic, start="latest")) as reader:
        stored = read_until(reader, lambda got: got.after).after
    kafka.add_partitions(topic, 2)
    write(kafka, topic, b'{"n":1}', partition=1)
    with reading(source(kafka, topic, start="latest"), stored) as reader:
        assert numbers(read(reader, 1)) == [1]


def test_a_new_topic_that_matches_the_pattern_joins(kafka):
    first = kafka.create_topic()
    prefix = first[:-4]
    write(kafka, first, b'{"n":1}')
    with reading(source(kafka, topics_regex=prefix + ".*", start="earliest")) as reader:
        assert numbers(read(reader, 1)) == [1]
        second = kafka.create_topic(name=prefix + "-later")
        write(kafka, second, b'{"n":2}')
        assert numbers(read(reader, 1)) == [2]


def test_a_pattern_that_matches_nothing_yet_waits(kafka):
    name = kafka.create_topic() + "-later"
    with reading(source(kafka, topics_regex=name)) as reader:
        assert reader.poll(1000, 0) is None
        kafka.create_topic(name=name)
        write(kafka, name, b'{"n":1}')
        assert numbers(read(reader, 1)) == [1]


def test_a_topic_deleted_while_running_stops_the_reader(kafka):
    topic = kafka.create_topic()
    with reading(source(kafka, topic)) as reader:
        read_until(reader, lambda got: got.after)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_topics([topic])[topic].result(20)
        with pytest.raises(FatalError) as caught:
            read(reader, 1)
    assert caught.value.code == "topic_missing"


def test_a_topic_that_comes_and_goes_with_a_pattern_is_let_go(kafka):
    first, second = kafka.create_topic(), kafka.create_topic()
    with reading(source(kafka, topics_regex=f"{first}|{second}")) as reader:
        read_until(reader, lambda got: got.after)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_topics([second])[second].result(20)
        read_until(reader, lambda _: set(reader.lag()) == {f"{first}/0"})
        write(kafka, first, b'{"n":1}')
        assert numbers(read(reader, 1)) == [1]


@pytest.mark.parametrize(("start", "found"), [("earliest", [0, 1, 2, 3]), ("stored", [0, 1, 2, 3])])
def test_start_says_where_to_begin_when_nothing_is_stored(kafka, start, found):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(4))
    with reading(source(kafka, topic, start=start), until_caught_up=True) as reader:
        assert numbers(read_to_the_end(reader)) == found


def test_start_latest_takes_what_comes_from_now_on(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(4))
    with reading(source(kafka, topic, start="latest")) as reader:
        write(kafka, topic, *numbered(2, start=4))
        assert numbers(read(reader, 2)) == [4, 5]


def test_start_at_a_time_takes_what_is_not_older(kafka):
    topic = kafka.create_topic(2)
    for second in range(4):
        write(
            kafka, topic, b'{"n":%d}' % second, partition=0, timestamp=1793527200000 + second * 1000
        )
    write(kafka, topic, b'{"n":99}', partition=1, timestamp=1793527200000)
    a_source = source(kafka, topic, start="2026-11-01T10:00:02Z")
    with reading(a_source) as reader:
        got = read(reader, 2)
        assert numbers(got) == [2, 3]
        assert offsets(got.after)[f"{topic}/1"] == position(1)
        write(kafka, topic, b'{"n":100}', partition=1)
        assert numbers(read(reader, 1)) == [100]


@pytest.mark.parametrize(("policy", "found"), [("earliest", [5, 6, 7]), ("latest", [])])
def test_on_offset_gone_goes_on_at_one_of_the_ends(kafka, policy, found):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(8))
    delete_before(kafka, topic, 5)
    a_source = source(kafka, topic, on_offset_gone=policy)
    stored = {f"{topic}/0": position(2)}
    with reading(a_source, stored, until_caught_up=True) as reader:
        got = read_to_the_end(reader)
    assert numbers(got) == found
    assert offsets(got.after) == {f"{topic}/0": position(8)}


@pytest.mark.parametrize("stored", [2, 9])
def test_a_position_that_is_gone_stops_the_flow_by_default(kafka, stored):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(8))
    delete_before(kafka, topic, 5)
    with pytest.raises(FatalError) as caught:
        source(kafka, topic).open(Opening(Shard(), {f"{topic}/0": position(stored)}))
    assert caught.value.code == "offset_gone"
    assert f"topic {topic}, partition 0: the position {stored} is gone" in caught.value.message
    assert "5 to 8" in caught.value.message


def test_the_last_position_of_a_topic_that_retention_emptied_is_not_gone(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(8))
    delete_before(kafka, topic, 8)
    with reading(source(kafka, topic), {f"{topic}/0": position(8)}) as reader:
        write(kafka, topic, *numbered(1, start=8))
        assert numbers(read(reader, 1)) == [8]


@pytest.mark.parametrize("policy", ["fail", "earliest"])
def test_on_offset_gone_holds_while_running_too(kafka, policy):
    topic = kafka.create_topic()
    for start in range(0, 2000, 100):
        write(kafka, topic, *numbered(100, start))
    # Little is read ahead, so that the next fetch is after the deletion.
    options = {"queued.min.messages": 1, "fetch.message.max.bytes": 1000, "fetch.max.bytes": 1000}
    options["message.max.bytes"] = 1000
    a_source = source(kafka, topic, on_offset_gone=policy, options=options)
    with reading(a_source) as reader:
        got = read_until(reader, lambda got: got.events, limit=1)
        delete_before(kafka, topic, 1990)
        if policy == "fail":
            with pytest.raises(FatalError) as caught:
                read(reader, 2000)
            assert caught.value.code == "offset_gone"
            assert "1990 to 2000" in caught.value.message
        else:
            rest = read_until(reader, lambda got: got.events and numbers(got)[-1] == 1999)
            assert numbers(rest)[-10:] == list(range(1990, 2000))
            assert len(rest.events) + len(got.events) < 2000


def test_until_caught_up_ends_at_what_was_the_end(kafka):
    topic = kafka.create_topic(3)
    write(kafka, topic, *numbered(10), partition=0)
    write(kafka, topic, *numbered(5, start=10), partition=1)
    with reading(source(kafka, topic), until_caught_up=True) as reader:
        write(kafka, topic, *numbered(10, start=100), partition=0)
        write(kafka, topic, *numbered(10, start=100), partition=2)
        got = read_to_the_end(reader, limit=4)
    assert sorted(numbers(got)) == list(range(15))
    ends = {f"{topic}/{n}": position(end) for n, end in enumerate((10, 5, 0))}
    assert offsets(got.after) == ends


def test_until_caught_up_ends_at_once_when_there_is_nothing(kafka):
    topic = kafka.create_topic()
    with reading(source(kafka, topic), {f"{topic}/0": position(0)}, until_caught_up=True) as reader:
        assert read_to_the_end(reader).events == []


def test_only_committed_transactions_are_read_and_their_marks_do_not_hold_up_the_end(kafka):
    topic = kafka.create_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for name, values in (
        ("commit", numbered(3)),
        ("abort", numbered(3, 3)),
        ("commit", numbered(2, 6)),
    ):
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(30) == 0
        getattr(producer, f"{name}_transaction")(30)
    producer.begin_transaction()
    producer.produce(topic, b'{"n":99}')
    producer.flush(30)
    with reading(source(kafka, topic), until_caught_up=True) as reader:
        got = read_to_the_end(reader)
    assert numbers(got) == [0, 1, 2, 6, 7]
    assert offsets(got.after) == {f"{topic}/0": position(11)}  # 8 events, 3 marks
    producer.abort_transaction(30)
    wait_for(lambda: committed_end(kafka, topic) == 13, "the mark of the abort")
    with reading(source(kafka, topic), got.after, until_caught_up=True) as reader:
        rest = read_to_the_end(reader)
    assert rest.events == []
    assert offsets(rest.after) == {f"{topic}/0": position(13)}
    producer.close()


def test_acknowledged_positions_are_committed_to_the_group_for_lag_tools(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(5))
    group = f"{topic}-group"
    with reading(source(kafka, topic, group=group)) as reader:
        got = read(reader, 5)
        reader.acknowledge({f"{topic}/0": got.events[2].position})
    looking = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    (committed,) = looking.committed([TopicPartition(topic, 0)], timeout=20)
    looking.close()
    assert committed.offset == 3
    # They are information: reading goes on where the checkpoint says.
    with reading(source(kafka, topic, group=group), {f"{topic}/0": position(1)}) as reader:
        assert numbers(read(reader, 4)) == [1, 2, 3, 4]


def test_lag_counts_what_is_not_handed_over_yet(kafka):
    topic = kafka.create_topic()
    write(kafka, topic, *numbered(10), timestamp=1000)
    with reading(source(kafka, topic)) as reader:
        assert reader.lag()[f"{topic}/0"].events == 10
        read_until(reader, lambda got: len(got.events) == 4, limit=4)
        lag = reader.lag()[f"{topic}/0"]
        assert lag.events == 6
        assert lag.seconds > 1_000_000_000
        read(reader, 6)
        assert reader.lag()[f"{topic}/0"].events == 0
        assert reader.status() == ""


def test_a_missing_topic_is_one_clear_error(kafka):
    with pytest.raises(FatalError) as caught:
        source(kafka, "nowhere").open(Opening(Shard(), {}))
    assert caught.value.code == "topic_missing"
    assert "topic nowhere does not exist" in str(caught.value)
    assert "kafka-topics.sh" in caught.value.hint
    assert not caught.value.unreachable


def test_preflight_shows_partitions_and_names_what_is_missing(kafka):
    topic = kafka.create_topic(3)
    broker, there, missing = source(kafka, topic, "nowhere").preflight()
    assert (broker.ok, there.ok, missing.ok) == (True, True, False)
    assert "1 broker" in broker.found
    assert there.found == "3 partitions, read allowed"
    assert missing.found == "missing"
    assert "--topic nowhere" in missing.hint


def test_closing_leaves_no_thread_and_no_connection(kafka):
    import psutil  # noqa: PLC0415

    topic = kafka.create_topic()
    write(kafka, topic, b'{"n":1}')
    process = psutil.Process()
    with reading(source(kafka, topic)) as reader:
        read(reader, 1)
    before = (process.num_threads(), len(process.net_connections()))
    for _ in range(3):
        with reading(source(kafka, topic)) as reader:
            read(reader, 1)
        reader.close()  # a second time does no harm
    wait_for(
        lambda: process.num_threads() <= before[0] and len(process.net_connections()) <= before[1],
        "threads and connections to end",
    )


def test_large_messages_come_in_batches_of_a_few_megabytes(kafka):
    topic = kafka.create_topic()
    for _ in range(10):
        write(kafka, topic, *[b'"' + b"x" * 900_000 + b'"'] * 3)
    with reading(source(kafka, topic), until_caught_up=True) as reader:
        got = read_to_the_end(reader)
    assert len(got.events) == 30
    assert max(batch.weight for batch in got.batches[1:]) < 5 * 1024 * 1024
