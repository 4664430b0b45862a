"""What a flow file may write for Amazon SQS."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl
from connectors.aws import AwsSettings
from connectors.settings import Duration, Template


class SqsSource(AwsSettings):
    """Configuration of `source.aws_sqs`."""

    queue_url: HttpUrl
    """URL of the queue; a name that ends in `.fifo` is read in order per message group."""
    visibility_timeout: Annotated[Duration, Ge(1), Le(43200)] = 60.0
    """How long a received message stays hidden; prolonged while its event is on its way."""
    wait_time: Annotated[Duration, Ge(0), Le(20)] = 20.0
    """How long one receive call waits for messages (long polling); 20s at most."""
    receivers: Annotated[int, Ge(1), Le(64)] = 2
    """Receive calls under way at the same time."""
    max_in_flight: Annotated[int, Ge(1), Le(120000)] = 10000
    """Messages received and not yet settled; no more are received beyond."""
    format: Literal["auto", "cloudevents", "json", "sns"] = "auto"
    """What a body holds; `auto` recognises CloudEvents and SNS notifications, else JSON."""
    type: str = "aws.sqs.message"
    """CloudEvents type of a message that is not a CloudEvent itself."""


class SqsSink(AwsSettings):
    """Configuration of `sink.aws_sqs`."""

    queue_url: HttpUrl
    """URL of the queue."""
    format: Literal["json", "cloudevents_binary", "cloudevents_structured"] = (
        "cloudevents_structured"
    )
    """What is sent: the data, or a CloudEvent with message attributes or as one document."""
    message_group: Template | None = None
    """Message group of a FIFO queue; default: the event's partition key, else its type."""
    deduplication_id: Template = "{{ .id }}"
    """Deduplication id on a FIFO queue."""
    delay: Annotated[Duration, Ge(0), Le(900)] = 0.0
    """How long a message stays hidden after sending; 15m at most, not on FIFO queues."""
    concurrency: Annotated[int, Ge(1), Le(256)] = 8
    """Send calls (10 messages each) under way at the same time; order is kept per group."""

    @model_validator(mode="after")
    def _queue_kind(self) -> Self:
        fifo = self.queue_url.endswith(".fifo")
        if fifo and self.delay:
            raise ValueError("no delay: a FIFO queue takes none per message")
        if not fifo and self.message_group is not None:
            raise ValueError("no message_group, or a queue whose name ends in .fifo")
        return self
