import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contracts import Shard
from connectors.enveloping import text_of_key
from connectors.errors import FatalError
from connectors.kafka.decoding import bytes_of_key
from connectors.kafka.positions import (
    Part,
    Place,
    TopicChoice,
    Watermarks,
    begins_new,
    decode_position,
    encode_position,
    resume,
)

TOPIC_ID = "AuaIVdWvSNyEtIL4fBzdOA"


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_positions_sort_as_text_as_their_offsets_do(a, b):
    assert (encode_position(a) < encode_position(b)) == (a < b)
    assert decode_position(encode_position(a), Part("t", 0)) == Place(a)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_position_with_its_topics_id_covers_its_own_event_and_no_later_one(a, b):
    """An event's position has no id: nothing is made for each event."""
    with_id = encode_position(a, TOPIC_ID)
    assert decode_position(with_id, Part("t", 0)) == Place(a, TOPIC_ID)
    assert (encode_position(b) <= with_id) == (b <= a)
    assert (encode_position(b, TOPIC_ID) < with_id) == (b < a)


def test_a_position_of_another_system_is_refused():
    with pytest.raises(FatalError) as caught:
        decode_position("0/16B3748", Part("orders", 1))
    assert caught.value.code == "position_foreign"


@given(
    topics=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 12), min_size=1),
    workers=st.integers(1, 7),
    listed=st.booleans(),
)
def test_every_partition_belongs_to_exactly_one_shard(topics, workers, listed):
    choice = TopicChoice(topics, None) if listed else TopicChoice(None, ".*")
    parts = [Part(topic, n) for topic, count in topics.items() for n in range(count)]
    shares = [choice.share(parts, Shard(index, workers)) for index in range(workers)]
    assert sorted(part for share in shares for part in share) == sorted(parts)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(1, 5), st.booleans())
def test_added_partitions_move_no_other_to_another_shard(count, more, workers, listed):
    choice = TopicChoice(["a", "b"], None) if listed else TopicChoice(None, ".*")
    before = [Part("b", n) for n in range(count)]
    after = [Part("a", n) for n in range(more)] + [Part("b", n) for n in range(count + more)]
    for index in range(workers):
        shard = Shard(index, workers)
        assert set(choice.share(before, shard)) <= set(choice.share(after, shard))


def test_topics_of_one_partition_each_are_dealt_out_evenly():
    choice = TopicChoice(["a", "b", "c", "d"], None)
    parts = [Part(topic, 0) for topic in "abcd"]
    assert [len(choice.share(parts, Shard(index, 2))) for index in range(2)] == [2, 2]


def test_a_pattern_takes_whole_names_and_leaves_kafkas_own_topics():
    there = ["orders.eu", "orders.us", "old.orders.eu", "__consumer_offsets"]
    assert TopicChoice(None, r"orders\..*").matching(there) == ["orders.eu", "orders.us"]
    assert "__consumer_offsets" not in TopicChoice(None, ".*").matching(there)
    assert TopicChoice(None, "__consumer.*").matching(there) == ["__consumer_offsets"]


def test_a_partition_without_position_is_new_when_its_sisters_of_the_shard_have_one():
    choice, own = TopicChoice(["a", "b"], None), [Part("a", 0), Part("a", 1), Part("b", 0)]
    stored = {"a/0": "1"}
    assert begins_new(Part("a", 1), own, stored, choice)
    assert not begins_new(Part("b", 0), own, stored, choice)  # a topic added in the flow file
    assert not begins_new(Part("a", 1), own, {}, choice)
    assert not begins_new(Part("a", 1), [Part("a", 1)], {"a/0": "1"}, choice)  # another worker's
    assert begins_new(Part("b", 0), own, stored, TopicChoice(None, ".*"))


@pytest.mark.parametrize(
    ("offset", "policy", "goes_on_at"),
    [(5, "fail", 5), (10, "fail", 10), (3, "earliest", 5), (3, "latest", 10), (11, "earliest", 5)],
)
def test_reading_goes_on_where_it_was_or_as_on_offset_gone_says(offset, policy, goes_on_at):
    found = resume(Part("orders", 2), Place(offset), Watermarks(5, 10), policy)
    assert found == (goes_on_at, goes_on_at != offset)


@pytest.mark.parametrize(("policy", "goes_on_at"), [("earliest", 5), ("latest", 10)])
@pytest.mark.parametrize("offset", [3, 5, 7, 10, 11])
def test_a_position_of_an_older_topic_is_gone_whatever_its_offset(offset, policy, goes_on_at):
    place = Place(offset, "an-older-id")
    found = resume(Part("orders", 2), place, Watermarks(5, 10), policy, TOPIC_ID)
    assert found == (goes_on_at, True)


@pytest.mark.parametrize(
    ("stored", "there"), [("", ""), ("", TOPIC_ID), (TOPIC_ID, ""), ("a", "a")]
)
def test_where_one_of_the_ids_is_not_known_offsets_alone_tell(stored, there):
    place = Place(7, stored)
    assert resume(Part("orders", 2), place, Watermarks(5, 10), "fail", there) == (7, False)


def test_the_error_for_a_topic_made_anew_says_so_with_both_ids():
    with pytest.raises(FatalError) as caught:
        resume(Part("orders", 2), Place(7, "an-older-id"), Watermarks(5, 10), "fail", TOPIC_ID)
    error = caught.value
    assert error.code == "offset_gone"
    for part in ("topic orders", "position 7", "5 to 10", "made anew", "an-older-id", TOPIC_ID):
        assert part in error.message
    assert "on_offset_gone" in error.hint


@pytest.mark.parametrize(("offset", "why"), [(3, "2 offsets"), (11, "made anew")])
def test_a_position_that_is_gone_is_named_with_what_is_available(offset, why):
    with pytest.raises(FatalError) as caught:
        resume(Part("orders", 2), Place(offset), Watermarks(5, 10), "fail")
    error = caught.value
    assert error.code == "offset_gone"
    for part in ("topic orders", "partition 2", f"position {offset}", "5 to 10", why):
        assert part in error.message
    assert "on_offset_gone" in error.hint


@given(st.binary())
def test_every_key_survives_being_text(key):
    text = text_of_key(key)
    assert "\0" not in text
    text.encode()
    assert bytes_of_key(text) == key or text == key.decode()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_text_key_stays_as_it_is(key):
    assert text_of_key(key.encode()) == key
    assert bytes_of_key(key) == key.encode()


def test_a_text_that_only_looks_like_base64_stays_itself():
    for key in ("base64:", "base64:aGVsbG8=", "base64:nonsense!", "base64:/w"):
        assert bytes_of_key(key) == key.encode()
    assert bytes_of_key(text_of_key(b"\xff\x00")) == b"\xff\x00"
