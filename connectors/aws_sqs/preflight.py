"""What receiving and sending need, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.aws_sqs.client import Client, depth, queue_of
from connectors.aws_sqs.settings import SqsSink, SqsSource
from connectors.contracts import Check
from connectors.errors import PenstockError


def reading(settings: SqsSource) -> Iterator[Check]:
    """Check the credentials and the queue."""
    yield _queue(settings)


def sending(settings: SqsSink) -> Iterator[Check]:
    """Check the credentials and the queue; whether we may send shows when we do."""
    yield _queue(settings)


def _queue(settings: SqsSource | SqsSink) -> Check:
    name = f"queue {settings.queue_url.rpartition('/')[2]}"
    try:
        client = Client(queue_of(settings, settings.queue_url))
        try:
            waiting, hidden = depth(client)
        finally:
            client.drop()
    except PenstockError as error:
        return Check(
            name,
            ok=False,
            found=error.message,
            hint=error.hint,
            unreachable=error.code == "sqs_unavailable",
        )
    return Check(
        name, ok=True, found=f"about {waiting} messages wait, {hidden} are being worked on"
    )
