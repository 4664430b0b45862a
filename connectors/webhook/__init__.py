"""Webhooks: `sink.webhook`, and `webhook.sender`, its name elsewhere."""

from __future__ import annotations

from connectors.contracts import ConnectorType
from connectors.webhook.settings import WebhookSenderSettings, WebhookSettings
from connectors.webhook.sink import WebhookSink

SINK_WEBHOOK = ConnectorType(
    "sink.webhook",
    WebhookSettings,
    "Send an HTTP request per event.",
    sink=WebhookSink,
    roles=frozenset({"sink"}),
)
WEBHOOK_SENDER = ConnectorType(
    "webhook.sender",
    WebhookSenderSettings,
    "Send an HTTP request per event, to a URL that may come with the event.",
    sink=WebhookSink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_WEBHOOK", "WEBHOOK_SENDER", "WebhookSink"]
