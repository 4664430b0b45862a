"""A topic that was deleted and made anew, and has grown past where the old one was read to."""

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from connectors.contracts import Opening, Shard, TransactionScope, Window
from connectors.errors import FatalError
from connectors.kafka import topic_ids
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
from tests.connectors.kafka.test_transactions import transacting

pytestmark = pytest.mark.kafka

OLD, NEW = 10, 25


def old(count=OLD, start=0):
    return [b'{"old":%d}' % n for n in range(start, start + count)]


def new(count=NEW, start=0):
    return [b'{"new":%d}' % n for n in range(start, start + count)]


def make_anew(kafka, topic, *values, partitions=1):
    """Delete the topic, make it again at once, and fill it."""
    delete(kafka, topic)
    wait_for(lambda: is_made(kafka, topic, partitions), "the end of the old topic")
    for partition in range(partitions):
        write(kafka, topic, *values, partition=partition)


def is_made(kafka, topic, partitions):
    """Whether the topic could be made: the old one may not be quite gone yet."""
    try:
        kafka.create_topic(partitions, name=topic)
    except KafkaException as raised:
        if raised.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return False
    return True


def delete(kafka, topic):
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic])[topic].result(20)


def lag(reader, topic):
    return reader.lag()[f"{topic}/0"].events


class InOneGo:
    """Hands over what comes until the first report together with that, then each as it comes."""

    def __init__(self, consume):
        self.consume, self.kept, self.reported = consume, [], False

    def __call__(self, limit, timeout):
        messages = self.consume(limit, timeout)
        if self.reported:
            return messages
        self.kept += messages
        self.reported = any(message.error() for message in messages)
        return self.kept if self.reported else []


def read_all_of(kafka, topic, **config):
    """Write the old events, read them, and return the checkpoint."""
    write(kafka, topic, *old())
    with reading(source(kafka, topic, **config), until_caught_up=True) as reader:
        got = read_to_the_end(reader)
    assert got.raws == old()
    return got.after


@pytest.fixture
def topic(kafka):
    return kafka.create_topic()


class TestWhileStopped:
    def test_the_flow_stops_by_default_and_names_both_ids(self, kafka, topic):
        stored = read_all_of(kafka, topic)
        make_anew(kafka, topic, *new())
        for _ in range(2):  # a restart changes nothing
            with pytest.raises(FatalError) as caught:
                source(kafka, topic).open(Opening(Shard(), stored))
            error = caught.value
            assert error.code == "offset_gone"
            assert f"topic {topic}, partition 0: the position 10 is gone" in error.message
            assert "0 to 25. The topic was deleted and made anew: its id was" in error.message
            assert stored[f"{topic}/0"].partition("@")[2] in error.message
            assert "on_offset_gone" in error.hint

    @pytest.mark.parametrize(("policy", "found"), [("earliest", new()), ("latest", [])])
    def test_reading_goes_on_at_one_of_the_ends_as_the_policy_says(
        self, kafka, topic, policy, found
    ):
        stored = read_all_of(kafka, topic)
        make_anew(kafka, topic, *new())
        a_source = source(kafka, topic, on_offset_gone=policy)
        with reading(a_source, stored, until_caught_up=True) as reader:
            first = reader.poll(1000, 0.1)
            got = read_to_the_end(reader)
        assert first.size == 0
        assert first.after.keys() == stored.keys()
        assert got.raws == found
        # Where it begins is stored first: a restart before the first event begins there, too.
        with reading(a_source, first.after, until_caught_up=True) as reader:
            assert read_to_the_end(reader).raws == found
        after = {**first.after, **got.after}
        write(kafka, topic, *new(2, NEW))
        with reading(source(kafka, topic), after, until_caught_up=True) as reader:
            assert read_to_the_end(reader).raws == new(2, NEW)

    def test_a_topic_of_the_same_size_is_another_one_all_the_same(self, kafka, topic):
        stored = read_all_of(kafka, topic)
        make_anew(kafka, topic, *new(OLD))
        a_source = source(kafka, topic, on_offset_gone="earliest")
        with reading(a_source, stored, until_caught_up=True) as reader:
            assert read_to_the_end(reader).raws == new(OLD)

    def test_each_worker_finds_it_for_its_partitions_whatever_their_number_was(self, kafka):
        topic = kafka.create_topic(3)
        for partition in range(3):
            write(kafka, topic, *old(), partition=partition)
        with reading(source(kafka, topic), until_caught_up=True) as reader:
            stored = read_to_the_end(reader).after
        make_anew(kafka, topic, *new(), partitions=3)
        found = []
        for index in range(2):
            a_source = source(kafka, topic, on_offset_gone="earliest")
            with reading(a_source, stored, shard=Shard(index, 2), until_caught_up=True) as reader:
                found += read_to_the_end(reader).raws
        assert sorted(found) == sorted(new() * 3)

    def test_a_window_that_was_half_read_is_an_error(self, kafka, topic):
        window = Window(0, 2**42)
        write(kafka, topic, *old())
        a_source = source(kafka, topic, on_offset_gone="earliest")
        reader = a_source.open(Opening(Shard(), {}, window=window))
        try:
            stored = read(reader, 1, limit=1).after
        finally:
            reader.close()
        make_anew(kafka, topic, *new())
        with pytest.raises(FatalError) as caught:
            a_source.open(Opening(Shard(), stored, window=window))
        assert caught.value.code == "offset_gone"


class TestWhileRunning:
    def test_the_reader_stops_by_default_and_so_does_the_next(self, kafka, topic):
        write(kafka, topic, *old())
        with reading(source(kafka, topic)) as reader:
            got = read(reader, OLD)
            make_anew(kafka, topic, *new())
            after = dict(got.after)
            with pytest.raises(FatalError) as caught:
                read_until(reader, lambda got: after.update(got.after))
        assert caught.value.code == "offset_gone"
        assert "made anew" in caught.value.message
        # Whatever of the new topic it had read before it noticed is not taken for all of it.
        with pytest.raises(FatalError) as caught:
            source(kafka, topic).open(Opening(Shard(), after))
        assert caught.value.code == "offset_gone"

    def test_what_was_fetched_before_the_end_of_the_old_topic_does_not_hide_the_new_one(
        self, kafka, topic
    ):
        """Events and the report that the next offset is gone may come in one go."""
        for start in range(0, 2000, 100):
            write(kafka, topic, *old(100, start))
        options = {"queued.min.messages": 1, "message.max.bytes": 1000, "fetch.max.bytes": 1000}
        options["fetch.message.max.bytes"] = 1000
        a_source = source(kafka, topic, on_offset_gone="earliest", options=options, refresh=600)
        with reading(a_source) as reader:
            first = read(reader, 1, limit=1).after
            make_anew(kafka, topic, *new(5))
            reader._consume = InOneGo(reader._consume)
            got = read_until(reader, lambda got: new(5)[-1] in got.raws)
            wait_for(lambda: reader.poll(1, 0) is None and lag(reader, topic) == 0, "no lag")
        id_of_old = first[f"{topic}/0"].partition("@")[2]
        for batch in got.batches:
            (position,) = batch.after.values()
            is_of_old = b"old" in batch.column("raw")[-1]
            assert (position.partition("@")[2] == id_of_old) == is_of_old

    @pytest.mark.parametrize("size", [5, OLD, NEW])
    def test_nothing_of_the_new_topic_is_lost_with_earliest(self, kafka, topic, size):
        write(kafka, topic, *old())
        a_source = source(kafka, topic, on_offset_gone="earliest")
        with reading(a_source) as reader:
            read(reader, OLD)
            make_anew(kafka, topic, *new(size))
            got = read_until(reader, lambda got: set(got.raws) >= set(new(size)))
            # From its beginning to its end in one go, whatever came before.
            assert got.raws[-size:] == new(size)
            write(kafka, topic, *new(2, size))
            got = read(reader, 2)
            assert got.raws == new(2, size)
        with reading(source(kafka, topic), got.after, until_caught_up=True) as reader:
            assert read_to_the_end(reader).raws == []

    def test_what_was_handed_over_before_it_was_noticed_keeps_the_old_id(self, kafka, topic):
        """So a crash in between loses nothing: the next start notices."""
        write(kafka, topic, *old())
        blind = source(kafka, topic, refresh=600)
        with reading(blind) as reader:
            stored = read(reader, OLD).after
            make_anew(kafka, topic, *new())
            got = read(reader, NEW - OLD)
        assert got.raws == new(NEW - OLD, OLD)
        ids = {position.partition("@")[2] for position in (stored | got.after).values()}
        assert ids == {stored[f"{topic}/0"].partition("@")[2]}
        a_source = source(kafka, topic, on_offset_gone="earliest")
        with reading(a_source, got.after, until_caught_up=True) as reader:
            assert read_to_the_end(reader).raws == new()

    def test_a_topic_of_a_pattern_is_noticed_too(self, kafka, topic):
        write(kafka, topic, *old())
        a_source = source(kafka, topics_regex=topic, on_offset_gone="earliest")
        with reading(a_source) as reader:
            read(reader, OLD)
            make_anew(kafka, topic, *new())
            got = read_until(reader, lambda got: set(got.raws) >= set(new()))
        assert got.raws[-NEW:] == new()

    def test_catching_up_ends_where_the_new_topic_ends(self, kafka, topic):
        for start in range(0, 2000, 100):
            write(kafka, topic, *old(100, start))
        # Little is read ahead, so that the next fetch is of the new topic.
        options = {"queued.min.messages": 1, "message.max.bytes": 1000, "fetch.max.bytes": 1000}
        options["fetch.message.max.bytes"] = 1000
        a_source = source(kafka, topic, on_offset_gone="earliest", options=options)
        with reading(a_source, until_caught_up=True) as reader:
            read(reader, 1, limit=1)
            make_anew(kafka, topic, *new(5))
            got = read_to_the_end(reader)
        assert got.raws[-5:] == new(5)
        assert len(got.raws) < 2000


class TestPositionsWithoutAnId:
    def test_one_of_an_older_version_goes_on_and_has_the_id_stored(self, kafka, topic):
        stored = offsets(read_all_of(kafka, topic))
        write(kafka, topic, *new(2))
        with reading(source(kafka, topic), stored) as reader:
            first = reader.poll(1000, 0.1)
            assert read(reader, 2).raws == new(2)
        assert first.size == 0
        assert offsets(first.after) == stored
        assert first.after != stored
        make_anew(kafka, topic, *new())
        with pytest.raises(FatalError) as caught:
            source(kafka, topic).open(Opening(Shard(), first.after))
        assert caught.value.code == "offset_gone"

    def test_brokers_that_give_no_id_are_read_by_offset(self, kafka, topic, monkeypatch):
        """No server at hand gives none: here their answer is left unread."""
        with monkeypatch.context() as blind:
            blind.setattr(topic_ids, "_is_given", lambda _: False)
            stored = read_all_of(kafka, topic)
            assert stored == offsets(stored)
            write(kafka, topic, *new(2))
            with reading(source(kafka, topic), stored) as reader:
                assert read(reader, 2).raws == new(2)

    def test_an_id_that_was_stored_outlives_an_answer_without_one(self, kafka, topic, monkeypatch):
        stored = read_all_of(kafka, topic)
        write(kafka, topic, *new(2))
        with monkeypatch.context() as blind:
            blind.setattr(topic_ids, "_is_given", lambda _: False)
            with reading(source(kafka, topic), stored) as reader:
                got = read(reader, 2)
        assert got.after == {f"{topic}/0": stored[f"{topic}/0"].replace("10@", "12@")}

    def test_an_id_that_comes_to_be_known_while_running_is_stored(self, kafka, topic, monkeypatch):
        given = []
        monkeypatch.setattr(topic_ids, "_is_given", lambda _: bool(given))
        write(kafka, topic, *old())
        with reading(source(kafka, topic)) as reader:
            assert read(reader, OLD).after == {f"{topic}/0": f"{OLD:020d}"}
            given.append(True)
            after = read_until(reader, lambda got: got.after).after
        assert after[f"{topic}/0"].startswith(f"{OLD:020d}@")

    def test_ids_that_are_not_told_in_time_hold_nothing_up_and_are_looked_at_again(
        self, kafka, topic, monkeypatch
    ):
        """The controller tells them: events can be read while it is away."""
        stored = read_all_of(kafka, topic)
        make_anew(kafka, topic, *new())
        late = KafkaException(KafkaError(KafkaError._TIMED_OUT))

        class Late:
            def result(self, _seconds):
                raise late

        monkeypatch.setattr(topic_ids.TopicIds.of, "__defaults__", (0.3,))
        a_source = source(kafka, topic, on_offset_gone="earliest")
        with monkeypatch.context() as away:
            away.setattr(AdminClient, "describe_topics", lambda *_, **_options: {topic: Late()})
            reader = a_source.open(Opening(Shard(), stored))
        try:
            got = read_until(reader, lambda got: set(got.raws) >= set(new()))
        finally:
            reader.close()
        assert got.raws[-NEW:] == new()


def test_a_transaction_of_the_new_topic_counts_though_the_state_is_of_the_old_one(kafka, topic):
    """As after the state store was put back to an older state."""
    scope = TransactionScope(f"penstock/f/{topic}/0", f"group-{topic}", f"f/{topic}")
    target = kafka.create_topic()
    stored = read_all_of(kafka, topic)
    make_anew(kafka, topic, *new())
    a_source = source(kafka, topic, on_offset_gone="earliest")
    with reading(a_source, stored) as reader:
        reached = read_until(reader, lambda got: len(got.raws) >= 5, limit=5).after
    assert offsets(reached) == {f"{topic}/0": f"{5:020d}"}
    with transacting(kafka, scope, topic=target) as sink:
        sink.commit(reached, "x")
    with reading(source(kafka, topic), stored, transaction=scope) as reader:
        assert read(reader, NEW - 5).raws == new(NEW - 5, 5)
    make_anew(kafka, topic, *new())
    with pytest.raises(FatalError) as caught:
        source(kafka, topic).open(Opening(Shard(), reached, transaction=scope))
    assert caught.value.code == "offset_gone"


def test_a_topic_that_stays_is_asked_for_and_nothing_happens(kafka, topic, monkeypatch):
    """Many looks at a topic that is the same change nothing of what is read and stored."""
    looks = []
    of = topic_ids.TopicIds.of
    monkeypatch.setattr(
        topic_ids.TopicIds, "of", lambda self, *asked: looks.append(1) or of(self, *asked)
    )
    write(kafka, topic, *old())
    with reading(source(kafka, topic, refresh=0.05)) as reader:
        read(reader, OLD)
        wait_for(lambda: len(looks) > 5, "looks")
        assert reader.poll(1000, 0) is None
        write(kafka, topic, *new(3))
        assert read(reader, 3).raws == new(3)
