"""What `validate --connect` looks at: brokers, topics, and what this user may do with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not as such
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.contracts import Check
from connectors.errors import FatalError
from connectors.kafka.cluster import (
    ANSWER_SECONDS,
    CLIENT_LOG,
    Cluster,
    connected_consumer,
    consumer_properties,
)
from connectors.kafka.failures import ClientErrors, create_hint, not_authorised
from connectors.kafka.positions import TopicChoice


def reading(
    brokers: list[str], group: str, options: Mapping[str, str], choice: TopicChoice
) -> Iterator[Check]:
    """Check that the brokers answer, the topics exist and may be read."""
    with _Asking(brokers, group, options) as asking:
        yield from asking.brokers()
        if asking.answers:
            yield from asking.topics(choice, "Read")


def publishing(
    brokers: list[str], options: Mapping[str, str], topics: Sequence[str]
) -> Iterator[Check]:
    """Check that the brokers answer, the topics exist and may be written."""
    with _Asking(brokers, "penstock.preflight", options) as asking:
        yield from asking.brokers()
        if asking.answers and topics:
            yield from asking.topics(TopicChoice(topics, None), "Write")


class _Asking(contextlib.AbstractContextManager["_Asking"]):
    def __init__(self, brokers: list[str], group: str, options: Mapping[str, str]) -> None:
        self._addresses = ", ".join(brokers)
        self._errors = ClientErrors(self._addresses)
        self._consumer = connected_consumer(
            consumer_properties(brokers, group, options, self._errors)
        )
        self._cluster = Cluster(self._consumer, self._errors, idle=True)
        self._admin_properties: dict[str, Any] = {
            **options,
            "bootstrap.servers": ",".join(brokers),
            "logger": CLIENT_LOG,
        }
        self._admin_client: AdminClient | None = None
        self.answers = False

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
        self._admin_client = None  # its threads end with it

    def brokers(self) -> Iterator[Check]:
        try:
            metadata = self._cluster.metadata()
        except FatalError as error:
            yield _failed(f"Kafka at {self._addresses}", error)
            return
        self.answers = True
        count = len(metadata.brokers)
        yield Check(
            f"Kafka at {self._addresses}",
            ok=True,
            found=f"{count} broker{'s' if count != 1 else ''}, cluster {metadata.cluster_id}",
        )

    def topics(self, choice: TopicChoice, operation: str) -> Iterator[Check]:
        try:
            found = self._cluster.parts(choice, operation)
        except FatalError as error:
            yield _failed(f"topics {choice}", error)
            return
        if not found:
            yield Check(
                f"topics {choice}",
                ok=True,
                found="no topic matches yet",
                hint="Topics that are made later are noticed and read.",
                severity="warning",
            )
        allowed = self._allowed([name for name, parts in found.items() if parts is not None])
        for name, parts in found.items():
            if parts is None:
                yield self._missing(name, operation)
            elif operation.upper() not in allowed.get(name, {operation.upper()}):
                refusal = not_authorised(name, operation)
                yield Check(
                    f"topic {name}", ok=False, found=f"no right to {operation}", hint=refusal.hint
                )
            else:
                count = len(parts)
                yield Check(
                    f"topic {name}",
                    ok=True,
                    found=f"{count} partition{'s' if count != 1 else ''}, "
                    f"{operation.lower()} allowed",
                )

    def _missing(self, name: str, operation: str) -> Check:
        if operation == "Write" and self._creates_topics():
            return Check(
                f"topic {name}",
                ok=True,
                found="missing; the broker makes it when it is first written to",
                hint=f"To choose its partitions: {create_hint(name, 3)}",
                severity="warning",
            )
        return Check(f"topic {name}", ok=False, found="missing", hint=create_hint(name))

    def _allowed(self, names: list[str]) -> dict[str, set[str]]:
        """Return topic → names of the operations allowed; without those that can't be asked for."""
        if not names:
            return {}
        answers = self._admin().describe_topics(
            TopicCollection(names),
            include_authorized_operations=True,
            request_timeout=ANSWER_SECONDS,
        )
        allowed: dict[str, set[str]] = {}
        for name, answer in answers.items():
            with contextlib.suppress(KafkaException):
                operations: list[AclOperation] | None = answer.result().authorized_operations
                if operations:
                    allowed[name] = {operation.name for operation in operations}
        return allowed

    def _creates_topics(self) -> bool:
        """Whether the broker makes topics by itself; False where it doesn't say."""
        with contextlib.suppress(KafkaException):
            brokers = self._cluster.metadata().brokers
            resource = ConfigResource(ResourceType.BROKER, str(next(iter(brokers))))
            answer = self._admin().describe_configs([resource], request_timeout=ANSWER_SECONDS)
            entry: Any = answer[resource].result().get("auto.create.topics.enable")
            return entry is not None and entry.value == "true"
        return False

    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = AdminClient(dict(self._admin_properties))
        return self._admin_client


def _failed(name: str, error: FatalError) -> Check:
    return Check(
        name, ok=False, found=error.message, hint=error.hint, unreachable=error.unreachable
    )
