"""Webhooks: `sink.webhook`, and `webhook.sender`, its name elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.webhook.settings import WebhookSenderSettings, WebhookSettings

if TYPE_CHECKING:
    from connectors.webhook.sink import WebhookSink


def _sink(name: str, settings: WebhookSettings | WebhookSenderSettings) -> WebhookSink:
    from connectors.webhook.sink import WebhookSink  # noqa: PLC0415 - a flow is read without it

    return WebhookSink(name, settings)


SINK_WEBHOOK = ConnectorType(
    "sink.webhook",
    WebhookSettings,
    "Send an HTTP request per event.",
    sink=_sink,
    roles=frozenset({"sink"}),
)
WEBHOOK_SENDER = ConnectorType(
    "webhook.sender",
    WebhookSenderSettings,
    "Send an HTTP request per event, to a URL that may come with the event.",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_WEBHOOK", "WEBHOOK_SENDER"]
