"""What librdkafka's errors mean: who has to act, and what they can do about it."""

from __future__ import annotations

import re
import time

from confluent_kafka import KafkaError

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_AUTHENTICATION = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's local codes are named so
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}
_AUTHORISATION = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
PURGED = {
    KafkaError._PURGE_QUEUE,  # noqa: SLF001
    KafkaError._PURGE_INFLIGHT,  # noqa: SLF001
}
_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
_LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
MISSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
}
_TOO_LARGE = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG_SIZE,
}
_REFUSED = {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError._INVALID_ARG,  # noqa: SLF001
    KafkaError._BAD_MSG,  # noqa: SLF001
    KafkaError._BAD_COMPRESSION,  # noqa: SLF001
}


class ClientErrors:
    """Collects what a client reports beside its calls (`error_cb`), for whoever asks later.

    librdkafka mends connections by itself; what is kept here is the last sentence about it.
    """

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._last = ""
        self._down_since: float | None = None
        self.fatal: FatalError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Take an error; librdkafka calls this from within a poll."""
        code = error.code()
        if code in _AUTHENTICATION or error.fatal():
            self.fatal = client_failed(error)
        elif code == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            if self._down_since is None:
                self._down_since = time.monotonic()
        else:
            self._last = error.str()

    def answered(self) -> None:
        """Note that a broker has answered: what was wrong is over."""
        self._down_since = None

    @property
    def down(self) -> bool:
        """Whether no broker can be reached now."""
        return self._down_since is not None

    def status(self) -> str:
        """Return "" or one line on what is wrong."""
        since = self._down_since
        if since is None:
            return ""
        seconds = time.monotonic() - since
        return f"no Kafka broker answers since {seconds:.0f} s, trying again: {self._last}"

    def unreachable(self, seconds: float) -> FatalError:
        """Return the error for a cluster that did not answer for so long."""
        said = f" The last error was: {self._last}." if self._last else ""
        return FatalError(
            f"no Kafka broker at {self._brokers} answered within {seconds:.0f} s.{said}",
            code="kafka_unreachable",
            hint="Check `brokers`, that Kafka runs and lets this machine in, and that"
            " `options: security.protocol` is what that port speaks.",
            unreachable=True,
        )


def authentication_failed(said: str) -> FatalError:
    """Return the error for credentials that the broker does not take."""
    return FatalError(
        f"Kafka refused the credentials: {said}.",
        code="kafka_authentication",
        hint="Check sasl.mechanism, sasl.username and sasl.password in `options`.",
    )


def client_failed(error: KafkaError) -> FatalError:
    """Return what an error that librdkafka itself calls fatal means."""
    code, said = error.code(), error.str()
    if code in _AUTHENTICATION:
        return authentication_failed(said)
    if code in _AUTHORISATION:
        return FatalError(
            f"Kafka does not let this user go on: {said}.",
            code="kafka_not_authorised",
            hint="To publish, a user needs Write on the topics (with brokers before 2.8"
            " IdempotentWrite on the cluster, and for `delivery: exactly_once` Write on the"
            " TransactionalId): see kafka-acls.sh.",
        )
    if code in _FENCED:
        return fenced(said)
    return client_stopped(said)


def client_stopped(said: str) -> FatalError:
    """Return the error for a client that can't go on without risking order or repeats."""
    return FatalError(
        f"the Kafka client can't go on: {said}.",
        code="kafka_client",
        hint="Start again: it goes on at the last checkpoint, and publishes again what was not"
        " confirmed.",
    )


def fenced(said: str) -> FatalError:
    """Return the error for a transactional producer that another, or a timeout, has shut out."""
    return FatalError(
        f"another producer has taken over the transactions of this one, or one of them was open for"
        f" too long: {said}.",
        code="kafka_fenced",
        hint="What was not committed never happened, and comes again. If this repeats: does a copy"
        " of the flow run with another state store? Do steps take longer than `options:"
        " transaction.timeout.ms` of the sink (60,000)?",
    )


def transactions_unavailable(said: str) -> RetryableError:
    """Return the error for transactions that can't be made, committed or aborted just now."""
    return RetryableError(
        f"Kafka's transactions do not answer: {said}.",
        code="kafka_transaction",
        hint="It is tried again. The brokers need their topic __transaction_state:"
        " transaction.state.log.replication.factor may not exceed their number.",
    )


def transactions_stuck(seconds: float, said: str) -> FatalError:
    """Return the error for a producer that hears nothing of brokers which answer other clients."""
    return FatalError(
        f"Kafka's brokers answer, but not in transactions, since {seconds:.0f} s: {said}.",
        code="kafka_transaction",
        hint="The worker starts again with a new connection; what was not committed comes again. If"
        " this repeats, see whether the partitions of the topic __transaction_state have leaders.",
        unreachable=True,
    )


def topic_missing(topic: str, *, partitions: int = 1) -> FatalError:
    """Return the error for a topic that is not there."""
    return FatalError(
        f"the Kafka topic {topic} does not exist.",
        code="topic_missing",
        hint=create_hint(topic, partitions),
        topic=topic,
    )


def _is_legal(topic: str) -> bool:
    """Whether a broker would take this as a topic's name (Kafka's `Topic.validate`).

    The broker says so of a name that is not, or that no such topic is known: whichever the client
    hears first. No topic can be made of it, so that it must not stop the worker until there is one.
    """
    return topic not in {".", ".."} and _LEGAL_NAME.fullmatch(topic) is not None


def create_hint(topic: str, partitions: int = 1) -> str:
    """Return how to make a topic."""
    return (
        "Create it: kafka-topics.sh --bootstrap-server <broker> --create"
        f" --topic {topic} --partitions {partitions}"
    )


def not_authorised(topic: str, operation: str) -> FatalError:
    """Return the error for a right that is missing on a topic."""
    return FatalError(
        f"this user may not {operation.lower()} the Kafka topic {topic}.",
        code="kafka_not_authorised",
        hint="Grant it: kafka-acls.sh --bootstrap-server <broker> --add"
        f" --allow-principal User:<user> --operation {operation} --topic {topic}",
        topic=topic,
    )


def reading_failed(error: KafkaError, topic: str) -> FatalError | None:
    """Return the error that a consumer's report stops the worker with; None if it may pass."""
    code = error.code()
    if code in _AUTHENTICATION:
        return authentication_failed(error.str())
    if code in _AUTHORISATION:
        return not_authorised(topic, "Read")
    if error.fatal():
        return client_failed(error)
    return None


def delivery_failed(error: KafkaError, topic: str, timeout: float) -> PenstockError:
    """Return what a failed delivery means for its event."""
    code, said = error.code(), error.str()
    if code == KafkaError._FATAL or error.fatal():  # noqa: SLF001
        return client_failed(error)
    if code in _AUTHENTICATION:
        return authentication_failed(said)
    if code in _AUTHORISATION:
        return not_authorised(topic, "Write")
    if code in MISSING and _is_legal(topic):
        return topic_missing(topic)
    if code in _TOO_LARGE:
        return PermanentError(
            f"the event is too large for the Kafka topic {topic}: {said}.",
            code="message_too_large",
            hint="Limits are the topic's max.message.bytes and, here, `options:"
            " message.max.bytes` (1,000,000).",
            topic=topic,
        )
    if code in _REFUSED or code in MISSING:
        return PermanentError(
            f"Kafka does not take the event into topic {topic}: {said}.",
            code="message_refused",
            topic=topic,
        )
    waited = f" within {timeout:.0f} s" if code == KafkaError._MSG_TIMED_OUT else ""  # noqa: SLF001
    return RetryableError(
        f"Kafka did not confirm the event in topic {topic}{waited}: {said}.",
        code="kafka_delivery",
        hint="It is tried again. See whether the topic's leaders and replicas are up.",
        topic=topic,
    )
