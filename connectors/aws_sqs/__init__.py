"""Amazon SQS: `source.aws_sqs`, `sink.aws_sqs`.

settings    what a flow file may write
source      opens a reader of a queue                 → reader
reader      batches out of what was received          → receiving (receives), keeping (deletes, prolongs)
in_flight   messages received and not deleted yet     (what is settled of them: connectors.progress)
decoding    messages as a batch's columns
sink        batches as SendMessageBatch calls         → sending
client      one connection to SQS: its JSON protocol, signed by `signing`
credentials who we are, as the AWS SDK finds it
failures    what SQS's errors mean
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.aws_sqs.settings import SqsSink, SqsSource
from connectors.contracts import ConnectorType

if TYPE_CHECKING:
    from connectors.aws_sqs.sink import SqsQueueSink
    from connectors.aws_sqs.source import SqsQueueSource


def _source(name: str, settings: SqsSource) -> SqsQueueSource:
    from connectors.aws_sqs.source import SqsQueueSource  # noqa: PLC0415 - a flow is read without it

    return SqsQueueSource(name, settings)


def _sink(name: str, settings: SqsSink) -> SqsQueueSink:
    from connectors.aws_sqs.sink import SqsQueueSink  # noqa: PLC0415 - a flow is read without it

    return SqsQueueSink(name, settings)


SOURCE_AWS_SQS = ConnectorType(
    "source.aws_sqs",
    SqsSource,
    "Receive messages of an SQS queue.",
    source=_source,
    roles=frozenset({"source"}),
)
SINK_AWS_SQS = ConnectorType(
    "sink.aws_sqs",
    SqsSink,
    "Send events to an SQS queue.",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_AWS_SQS", "SOURCE_AWS_SQS"]
