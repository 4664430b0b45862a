"""Configuration of the Pub/Sub connector."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field, WithJsonSchema

from connectors.settings import Duration, Settings, Size

_PROJECT = r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{0,62}$"
_RESOURCE = r"^[A-Za-z][A-Za-z0-9._~+%-]{0,254}$"


def _parse_start(value: Any) -> str | float:
    if value in {"stored", "latest"}:
        return str(value)
    try:
        at = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        at = value
    if isinstance(at, datetime) and at.tzinfo is not None:
        return at.timestamp()
    if isinstance(value, float):  # validated before
        return value
    raise ValueError("stored, latest, or a time with its offset: 2026-11-01T00:00:00Z")


Start = Annotated[
    float | Literal["stored", "latest"],
    BeforeValidator(_parse_start),
    WithJsonSchema({"anyOf": [{"enum": ["stored", "latest"]}, {"type": "string"}]}),
]


class PubsubSettings(Settings):
    """Where Pub/Sub is and who we are."""

    project: Annotated[str, Field(pattern=_PROJECT)]
    """Id of the Google Cloud project."""
    endpoint: str | None = None
    """`host:port` of an emulator or a regional endpoint; default: `PUBSUB_EMULATOR_HOST` where it is
    set, else Google's. One outside of googleapis.com is spoken to without TLS and credentials,
    unless there is a `credentials_file`."""
    credentials_file: str | None = None
    """Credentials as a JSON file; default: the application default credentials."""


class PubsubSource(PubsubSettings):
    """Configuration of `source.gcp_pubsub`."""

    subscription: Annotated[str, Field(pattern=_RESOURCE)]
    """Name of the subscription, without its project."""
    ack_deadline: Annotated[Duration, Ge(10), Le(600)] = 60.0
    """Lease on a received message; prolonged while its event is on its way. As long, what a killed
    worker had in hand is not given to the next."""
    start: Start = "stored"
    """Where to begin when nothing is stored: `stored` with what the subscription holds, `latest`
    with what is published from now on, a time with what was published since. The last two seek the
    subscription itself, for all who read it; for what is acknowledged already it must retain
    acknowledged messages."""
    max_in_flight: Annotated[int, Ge(1)] = 10000
    """Messages received and not yet settled; no more are pulled beyond."""
    max_in_flight_bytes: Annotated[Size, Ge(1)] = 64_000_000
    """Bytes received and not yet settled; no more are pulled beyond."""
    format: Literal["auto", "cloudevents", "json"] = "auto"
    """What a message holds; `auto` recognises CloudEvents, else JSON."""
    type: str = "gcp.pubsub.message"
    """CloudEvents type of a message that is not a CloudEvent itself."""


class PubsubSink(PubsubSettings):
    """Configuration of `sink.gcp_pubsub`."""

    topic: Annotated[str, Field(pattern=_RESOURCE)] | None = None
    """Topic to publish to, where a publish step names none."""
    format: Literal["json", "cloudevents_binary", "cloudevents_structured"] = "cloudevents_binary"
    """What is published: the data, or a CloudEvent with attributes or as one document."""
    ordering: bool = True
    """Send the event's partition key as ordering key."""
    batch_size: Annotated[int, Ge(1), Le(1000)] = 1000
    """Messages in one publish call."""
    timeout: Annotated[Duration, Ge(1)] = 60.0
    """How long a publish call may take."""
