"""Google Cloud Pub/Sub: `source.gcp_pubsub`, `sink.gcp_pubsub`; modelled, not built yet."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field

from connectors.contracts import ConnectorType
from connectors.settings import Duration, Settings, Size

_PROJECT = r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{0,62}$"
_RESOURCE = r"^[A-Za-z][A-Za-z0-9._~+%-]{0,254}$"


class PubsubSettings(Settings):
    """Where Pub/Sub is and who we are."""

    project: Annotated[str, Field(pattern=_PROJECT)]
    """Id of the Google Cloud project."""
    endpoint: str | None = None
    """`host:port` of an emulator or a regional endpoint; default: Google's, or
    `PUBSUB_EMULATOR_HOST`."""
    credentials_file: str | None = None
    """Service account key; default: the application default credentials."""


class PubsubSource(PubsubSettings):
    """Configuration of `source.gcp_pubsub`."""

    subscription: Annotated[str, Field(pattern=_RESOURCE)]
    """Name of the subscription, without its project."""
    ack_deadline: Annotated[Duration, Ge(10), Le(600)] = 60.0
    """Lease on a received message; prolonged while its event is on its way."""
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


SOURCE_GCP_PUBSUB = ConnectorType(
    "source.gcp_pubsub",
    PubsubSource,
    "Pull messages of a Pub/Sub subscription.",
    roles=frozenset({"source"}),
)
SINK_GCP_PUBSUB = ConnectorType(
    "sink.gcp_pubsub", PubsubSink, "Publish events to Pub/Sub.", roles=frozenset({"sink"})
)
