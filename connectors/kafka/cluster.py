"""Questions to a cluster: which partitions are there, what do they hold. Blocking, bounded.

Any client object can ask. Consumers are used, since a producer that asks for a topic makes it
where the broker creates topics by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.errors import FatalError, RetryableError
from connectors.kafka.failures import (
    MISSING,
    ClientErrors,
    client_failed,
    not_authorised,
    reading_failed,
    topic_missing,
)
from connectors.kafka.positions import Part, TopicChoice, Watermarks

log = structlog.get_logger("penstock.kafka")

ANSWER_SECONDS = 10.0
"""How long `open` and a preflight wait for a broker to answer."""

_TRY_SECONDS = 1.5


class Cluster:
    """A client and the patience to ask it: each question is repeated until `patience` is over.

    `idle` says that the client has no partitions yet: then it may be polled, to hear why nobody
    answers. Polling a consumer that reads would take an event from its reader.
    """

    def __init__(
        self,
        client: Any,
        errors: ClientErrors,
        patience: float | None = None,
        *,
        idle: bool = False,
    ) -> None:
        self._client = client
        self._errors = errors
        self._patience = ANSWER_SECONDS if patience is None else patience
        self._idle = idle

    def ask(self, question: str, *arguments: Any) -> Any:
        """Return the client's answer to the call `question`.

        Raises FatalError: refused credentials at once, `unreachable` when the time is over.
        """
        deadline = time.monotonic() + self._patience
        while True:
            left = deadline - time.monotonic()
            try:
                answer = getattr(self._client, question)(
                    *arguments, timeout=max(0.1, min(left, _TRY_SECONDS))
                )
            except KafkaException as raised:
                error = raised.args[0]
                if self._idle:
                    self._hear()
                if self._errors.fatal is not None:
                    raise self._errors.fatal from raised
                fatal = reading_failed(error, _topic_of(arguments))
                if fatal is not None:
                    raise fatal from raised
                if error.code() in MISSING:
                    raise topic_missing(_topic_of(arguments)) from raised
                if time.monotonic() + 0.1 > deadline:
                    raise self._errors.unreachable(self._patience) from raised
                time.sleep(0.05)
            else:
                self._errors.answered()
                return answer

    def _hear(self) -> None:
        """Let the client report to `error_cb`; what it calls fatal it raises instead."""
        try:
            self._client.poll(0)
        except KafkaException as raised:
            raise client_failed(raised.args[0]) from raised

    def metadata(self) -> Any:
        """Return the cluster's metadata, with all topics this user may see."""
        return self.ask("list_topics")

    def parts(self, choice: TopicChoice, operation: str = "Read") -> dict[str, list[Part] | None]:
        """Return topic → its partitions; None for one of the list that is not there.

        Raises FatalError where this user may not even see a topic, for `operation` or any other.
        """
        if choice.names is None:
            topics = self.metadata().topics
            listed = {name: topics[name] for name in choice.matching(topics)}
        else:
            listed = {name: self.ask("list_topics", name).topics[name] for name in choice.names}
        found: dict[str, list[Part] | None] = {}
        for name, topic in listed.items():
            code = topic.error.code() if topic.error is not None else None
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise not_authorised(name, operation)
            missing = code in MISSING or code == KafkaError.TOPIC_EXCEPTION
            found[name] = None if missing else [Part(name, n) for n in sorted(topic.partitions)]
        return found

    def watermarks(self, part: Part) -> Watermarks:
        """Return what the partition holds, up to the last committed transaction."""
        return Watermarks(*self.ask("get_watermark_offsets", TopicPartition(*part)))

    def offsets_at(self, parts: Iterable[Part], seconds: float) -> dict[Part, int]:
        """Return the first offset of each partition whose timestamp is not before `seconds`.

        A partition that has none so late is left out.
        """
        asked = [TopicPartition(*part, max(0, int(seconds * 1000))) for part in parts]
        if not asked:
            return {}
        answers = self.ask("offsets_for_times", asked)
        for answer in answers:
            if answer.error is not None:
                raise FatalError(
                    f"Kafka can't find a time in {answer.topic}/{answer.partition}:"
                    f" {answer.error.str()}.",
                    code="kafka_times",
                    hint="Start at `earliest` instead, or try again.",
                )
        return {Part(a.topic, a.partition): a.offset for a in answers if a.offset >= 0}

    def committed(self, parts: Iterable[Part]) -> dict[Part, tuple[int, str]]:
        """Return the group's offsets with their metadata; without partitions that have none.

        A transaction that is about to move one is waited for. The client must be a consumer.
        """
        asked = [TopicPartition(*part) for part in parts]
        if not asked:
            return {}
        deadline = time.monotonic() + self._patience
        while True:
            answers = self.ask("committed", asked)
            wrong = [answer for answer in answers if answer.error is not None]
            if not wrong:
                return {
                    Part(a.topic, a.partition): (a.offset, a.metadata or "")
                    for a in answers
                    if a.offset >= 0
                }
            if time.monotonic() > deadline:
                raise RetryableError(
                    f"the committed offset of {wrong[0].topic}/{wrong[0].partition} can't be read:"
                    f" {wrong[0].error.str()}.",
                    code="kafka_committed",
                    hint="It is tried again.",
                )
            time.sleep(0.05)


def consumer_properties(
    brokers: list[str], group: str, options: Mapping[str, str], errors: ClientErrors
) -> dict[str, Any]:
    """Return a consumer's configuration: ours, then the flow file's, then what must hold."""
    return {
        # At 1 s, its default, a full queue stops fetching for that long: 26,000 events/s where
        # 2 ms gives 115,000.
        "fetch.queue.backoff.ms": 2,
        # What is read ahead, in bytes and (for small messages, each with its overhead) in number.
        "queued.max.messages.kbytes": 2 * 1024,
        "queued.min.messages": 20_000,
        "fetch.max.bytes": 8 * 1024 * 1024,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2_000,
        "client.id": "penstock",
        **options,
        "bootstrap.servers": ",".join(brokers),
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "error_cb": errors,
        "logger": CLIENT_LOG,
    }


class _Log:
    """Takes librdkafka's log lines: what matters of them comes through `error_cb` too."""

    def log(self, level: int, message: str, *arguments: Any) -> None:
        log.debug("librdkafka", line=message % arguments if arguments else message, level=level)


CLIENT_LOG = _Log()


def connected_consumer(properties: Mapping[str, Any]) -> Consumer:
    """Return a consumer. Raises FatalError when librdkafka does not take the properties."""
    try:
        return Consumer(dict(properties))
    except KafkaException as error:
        raise FatalError(
            f"the Kafka client can't be made: {error.args[0].str()}.",
            code="kafka_options",
            hint="Check `options`.",
        ) from error


def _topic_of(arguments: tuple[Any, ...]) -> str:
    first = arguments[0] if arguments else ""
    if isinstance(first, list):
        first = first[0] if first else ""
    return str(getattr(first, "topic", first))
