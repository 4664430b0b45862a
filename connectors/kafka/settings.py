"""Configuration of the Kafka connector; the properties that it passes on to librdkafka.

`options` takes any librdkafka property. They are tried on real client objects when the flow file
is loaded, without connecting, so a wrong name or value is an error with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl
from connectors.settings import Settings

Property = str | int | float | bool
ReadFormat = Literal["auto", "cloudevents", "json", "confluent_json"]
PublishFormat = Literal["json", "cloudevents_binary", "cloudevents_structured", "confluent_json"]

_BROKER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:,/\[\]]+)(:\d{1,5})?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def _parse_brokers(value: Any) -> list[str]:
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(b, str) for b in found):
        raise ValueError("addresses such as [kafka-1:9092, kafka-2:9092]")
    brokers = [broker.strip() for broker in found if broker.strip()]
    if not brokers:
        raise ValueError("at least one address such as kafka-1:9092")
    for broker in brokers:
        match = _BROKER.fullmatch(broker)
        if not match or int((match[2] or ":9092")[1:]) not in range(1, 65536):
            raise ValueError(
                f"an address such as kafka-1:9092, without a scheme, and not {broker!r}"
            )
    return brokers


def _check_topic(value: str) -> str:
    if not _TOPIC.fullmatch(value) or value in {".", ".."}:
        raise ValueError(
            "a topic name: letters, digits, dots, underscores and hyphens, at most 249"
        )
    return value


def _check_regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression (of Python's kind): {error}") from error
    return value


def _parse_start(value: Any) -> str | float:
    if value in {"stored", "earliest", "latest"}:
        return str(value)
    try:
        at = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        at = value
    if isinstance(at, datetime) and at.tzinfo is not None:
        return at.timestamp()
    if isinstance(value, float):  # validated before
        return value
    raise ValueError("stored, earliest, latest, or a time with its offset: 2026-11-01T00:00:00Z")


Brokers = Annotated[
    list[str],
    BeforeValidator(_parse_brokers),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ],
            "examples": [["127.0.0.1:9092"]],
        }
    ),
]
Topic = Annotated[str, AfterValidator(_check_topic)]
Start = Annotated[
    Literal["stored", "earliest", "latest"] | float,
    BeforeValidator(_parse_start),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(stored|earliest|latest|\d{4}-\d\d-\d\d[T ].+)$",
            "examples": ["earliest", "2026-11-01T00:00:00Z"],
        }
    ),
]
"""A word, or a time: seconds since the epoch."""


_NOT_OURS = "Penstock keeps the positions itself, in its state store"
_REFUSED = {
    "bootstrap.servers": "write `brokers` instead",
    "metadata.broker.list": "write `brokers` instead",
    "group.id": "write `group` instead",
    "group.protocol": _NOT_OURS + " and takes partitions without a group",
    "group.instance.id": _NOT_OURS + " and takes partitions without a group",
    "enable.auto.commit": _NOT_OURS,
    "auto.commit.enable": _NOT_OURS,
    "enable.auto.offset.store": _NOT_OURS,
    "auto.commit.interval.ms": _NOT_OURS,
    "auto.offset.reset": "write `start` and `on_offset_gone` instead",
    "enable.partition.eof": "Penstock sets it where it needs it",
    "isolation.level": "events of aborted transactions never happened: it is read_committed",
    "transactional.id": "it belongs to `delivery: exactly_once`, and would fence other workers",
    "delivery.report.only.error": "an event counts as published once the broker says so",
    "dr_cb": "it is no setting of a flow file",
    "dr_msg_cb": "it is no setting of a flow file",
    "plugin.library.paths": "Penstock loads no native code that a flow file names",
}
_FIXED: dict[str, tuple[frozenset[str], str]] = {
    "acks": (frozenset({"all", "-1"}), "an event counts as published once all replicas have it"),
    "request.required.acks": (
        frozenset({"all", "-1"}),
        "an event counts as published once all replicas have it",
    ),
    "enable.idempotence": (
        frozenset({"true"}),
        "without it a retry inside the client repeats or reorders events",
    ),
}
_SECRET = re.compile(
    r"password|secret|\.key|\.pem|token|jaas|oauthbearer|credential", re.IGNORECASE
)


def check_options(options: dict[str, Property]) -> dict[str, Property]:
    """Return the options. Raises ValueError for one that we refuse or librdkafka does not take."""
    for name, value in options.items():
        if name in _REFUSED or name.endswith("_cb"):
            raise ValueError(f"{name} can't be set: {_REFUSED.get(name, 'it is a callback')}.")
        allowed, why = _FIXED.get(name, (None, ""))
        if allowed is not None and _text(value).lower() not in allowed:
            raise ValueError(f"{name} can't be {_text(value)}: {why}.")
    if not options:
        return options
    from confluent_kafka import (  # noqa: PLC0415 - takes 60 ms, for those who set options
        Consumer,
        KafkaException,
        Producer,
    )

    properties = client_properties(options)
    try:
        Consumer({**properties, "group.id": "check", "log_level": 0}).close()
        producer = Producer({**properties, "enable.idempotence": True, "log_level": 0})
        producer.close()
    except (KafkaException, TypeError, ValueError) as error:
        raise ValueError(f"{_without_secrets(_message(error), options)}") from None
    return options


def client_properties(options: Mapping[str, Property]) -> dict[str, str]:
    """Return the properties as librdkafka reads them."""
    return {name: _text(value) for name, value in options.items()}


def _text(value: Property) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _message(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    text = cause.str() if hasattr(cause, "str") else str(cause)
    return text.removeprefix("Failed to create consumer: ").removeprefix(
        "Failed to create producer: "
    )


def _without_secrets(text: str, options: Mapping[str, Property]) -> str:
    for name, value in options.items():
        if _SECRET.search(name) and len(_text(value)) > 3:
            text = text.replace(_text(value), "***")
    return text


Options = Annotated[dict[str, Property], AfterValidator(check_options), "secret"]
"""librdkafka properties. Any of them may be a secret, so none is shown."""


class _Connection(Settings):
    """What every role needs to reach the cluster."""

    brokers: Brokers
    """Addresses to start from, `host:port`: a list, or text with commas."""
    options: Options = Field(default_factory=dict)
    """Any librdkafka property: `security.protocol: SASL_SSL`, `compression.type: zstd`, ….
    Those that would break a guarantee are refused."""


class _Reading(Settings):
    """What reading adds."""

    topics: Annotated[list[Topic], MinLen(1)] | None = None
    """Topics to read."""
    topics_regex: Annotated[str, AfterValidator(_check_regex), MinLen(1)] | None = None
    """Read every topic whose whole name matches; new ones join while running. Topics whose name
    starts with `__` are Kafka's own and only match a pattern that starts so."""
    group: Annotated[str, MinLen(1)] | None = None
    """Consumer group that positions are committed to, for lag tools to see; default:
    `penstock.<module>`. Penstock reads on from its own state, never from there."""
    start: Start = "stored"
    """Where to begin in a topic that nothing is stored for: `earliest`, `latest` or a time.
    `stored` adds nothing to that rule and begins at `earliest`. Partitions added to a topic
    later are always read from their beginning."""
    format: ReadFormat = "auto"
    """What a message holds. `auto`: a CloudEvent where its headers say so (either mode), else
    JSON. `cloudevents`: a CloudEvent; a value without such headers is one in structured mode.
    `json`: JSON, whatever the headers say. `confluent_json`: JSON behind the id of its schema, as
    Confluent's serializers write it."""
    on_offset_gone: Literal["fail", "earliest", "latest"] = "fail"
    """What to do when the stored position is no longer in the topic (retention deleted it, or
    the topic was made anew): stop, or go on at the beginning or the end of what is there."""


class RegistrySettings(Settings):
    """A Confluent Schema Registry, or one that answers like it: Penstock's own does."""

    url: HttpUrl
    """Its address, such as `https://registry.example.com`."""
    auth: Annotated[str, MinLen(1), "secret"] | None = None
    """`user:password`, or a token; default: none is shown."""


class _Publishing(Settings):
    """What publishing adds."""

    publish_format: PublishFormat = "cloudevents_binary"
    """How an event is written: its data alone, or a CloudEvent with its attributes in the
    headers (any consumer can read the value) or around the data (less CPU). `confluent_json`: the data
    behind the id of the topic's schema, which `schema_registry` gives."""
    schema_registry: RegistrySettings | None = None
    """The registry that has the topics' JSON Schemas, as subjects `<topic>-value`; needed by
    `publish_format: confluent_json`, which writes the id of the last version."""

    @model_validator(mode="after")
    def _registry_where_needed(self) -> Self:
        if self.publish_format == "confluent_json" and self.schema_registry is None:
            raise ValueError("schema_registry, which publish_format: confluent_json needs")
        return self


class KafkaSourceSettings(_Connection, _Reading):
    """Configuration of `source.kafka`."""

    topic: Topic | None = None
    """The topic to read, where there is just one."""

    @model_validator(mode="after")
    def _one_choice_of_topics(self) -> KafkaSourceSettings:
        if sum(choice is not None for choice in (self.topic, self.topics, self.topics_regex)) != 1:
            raise ValueError("one of topic, topics or topics_regex")
        return self


class KafkaSinkSettings(_Connection, _Publishing):
    """Configuration of `sink.kafka`."""

    topic: Topic | None = None
    """Topic to publish to, where a publish step names none."""


class KafkaSettings(_Connection, _Reading, _Publishing):
    """Configuration of `messaging.kafka`: a source and a sink in one."""

    topic: Topic | None = None
    """Topic to publish to, where a publish step names none. Also the topic to read, if neither
    `topics` nor `topics_regex` is there."""

    @model_validator(mode="after")
    def _one_choice_of_topics(self) -> KafkaSettings:
        if self.topics is not None and self.topics_regex is not None:
            raise ValueError("topics or topics_regex, not both")
        return self
