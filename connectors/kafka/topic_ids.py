"""What tells a topic from another one that had its name: the id that its cluster gave it (KIP-516).

Offsets alone do not: a topic that was deleted and made anew may have grown past where the old one was
read to. librdkafka reads on there and says nothing, also when that happens under a running consumer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import TimeoutError as Unanswered
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from connectors.kafka.cluster import CLIENT_LOG, log
from connectors.kafka.failures import MISSING, ClientErrors, reading_failed

_UNKNOWN_HERE = {
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001 - librdkafka's local codes are named so
    KafkaError.UNSUPPORTED_VERSION,
}

PATIENCE = 5.0
"""How long `open` waits for the ids."""

_TRY_SECONDS = 1.5


class TopicIds:
    """A client of its own, made with the first question: consumers are not told the ids.

    Any thread may ask. Describing topics needs no right beside that to read them.
    """

    def __init__(self, brokers: list[str], options: Mapping[str, str]) -> None:
        self._brokers = brokers
        self._options = options
        self._errors = ClientErrors("")
        self._making = threading.Lock()
        self._client: AdminClient | None = None
        self._closed = False
        self._told = False

    def of(self, topics: Collection[str], patience: float = PATIENCE) -> dict[str, str]:
        """Return topic → id, as far as it can be told within `patience` seconds.

        One that is left out is not there, or its cluster gives none, or has not said it: the question
        is one for the controller, and events can be read while that is away. Whoever asks then keeps
        to the id that was known, which is compared at the next look. Raises FatalError.
        """
        found: dict[str, str] = {}
        left = sorted(topics)
        deadline = time.monotonic() + patience
        while left and not self._closed:
            seconds = max(0.1, min(deadline - time.monotonic(), _TRY_SECONDS))
            left = self._ask(left, seconds, found)
            if self._errors.fatal is not None:
                raise self._errors.fatal
            if left and time.monotonic() + 0.1 > deadline:
                log.warning(
                    "kafka_topic_ids_unanswered",
                    topics=left,
                    hint="Reading goes on; whether they were made anew is looked at again.",
                )
                break
            if left:
                time.sleep(0.05)
        return found

    def _ask(self, topics: list[str], seconds: float, found: dict[str, str]) -> list[str]:
        """Put the ids into `found`; return the topics to ask for again."""
        again = []
        client = self._connected()
        if client is None:
            return []
        answers = client.describe_topics(TopicCollection(topics), request_timeout=seconds)
        for topic, answer in answers.items():
            try:
                topic_id = answer.result(seconds + 1).topic_id
            except Unanswered:
                again.append(topic)
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                fatal = reading_failed(error, topic)
                if fatal is not None:
                    raise fatal from raised
                if error.code() in _UNKNOWN_HERE:
                    self._tell_once()
                elif error.code() not in MISSING:
                    again.append(topic)
            else:
                if _is_given(topic_id):
                    found[topic] = str(topic_id)
                else:
                    self._tell_once()
        return again

    def _connected(self) -> AdminClient | None:
        with self._making:
            if self._client is None and not self._closed:
                properties: dict[str, Any] = {
                    "reconnect.backoff.ms": 50,
                    "reconnect.backoff.max.ms": 2_000,
                    "client.id": "penstock",
                    **self._options,
                    "bootstrap.servers": ",".join(self._brokers),
                    "error_cb": self._errors,
                    "logger": CLIENT_LOG,
                }
                self._client = AdminClient(properties)
            return self._client

    def _tell_once(self) -> None:
        if not self._told:
            self._told = True
            log.info(
                "kafka_no_topic_ids",
                hint="These brokers give topics no id: one that is made anew and grows past the stored"
                " position is not told from the old one.",
            )

    def close(self) -> None:
        """Let the client go; its threads end with it."""
        with self._making:
            self._closed = True
            self._client = None


def _is_given(topic_id: Any) -> bool:
    """Whether it is an id: brokers older than Kafka 2.8, and some that are not Kafka, give zeros."""
    if topic_id is None:
        return False
    return bool(topic_id.get_most_significant_bits() or topic_id.get_least_significant_bits())
