"""What librdkafka's errors mean for an event."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from connectors.errors import FatalError, PermanentError
from connectors.kafka.failures import delivery_failed

UNKNOWN = [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC]


@pytest.mark.parametrize("code", UNKNOWN)
def test_a_topic_that_can_be_made_stops_the_worker_until_it_is(code):
    failed = delivery_failed(KafkaError(code), "orders.v1", 10)
    assert (type(failed), failed.code) == (FatalError, "topic_missing")


@pytest.mark.parametrize("code", [*UNKNOWN, KafkaError.TOPIC_EXCEPTION])
@pytest.mark.parametrize("topic", ["not a topic", ".", "..", "a" * 250, "größe"])
def test_a_name_that_no_topic_can_have_fails_its_event_only(code, topic):
    failed = delivery_failed(KafkaError(code), topic, 10)
    assert (type(failed), failed.code) == (PermanentError, "message_refused")
