"""Messages to Slack: `sink.slack`, and `notification.slack`, its name elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.slack.settings import SlackSink as SlackSinkSettings

if TYPE_CHECKING:
    from connectors.slack.sink import SlackSink


def _sink(name: str, settings: SlackSinkSettings) -> SlackSink:
    from connectors.slack.sink import SlackSink  # noqa: PLC0415 - a flow is read without it

    return SlackSink(name, settings)


_PREVIEW = "run against a server of our own that answers as Slack documents it, not against Slack"

SINK_SLACK = ConnectorType(
    "sink.slack",
    SlackSinkSettings,
    "Post events to Slack.",
    sink=_sink,
    roles=frozenset({"sink"}),
    preview=_PREVIEW,
)
NOTIFICATION_SLACK = ConnectorType(
    "notification.slack",
    SlackSinkSettings,
    "Post events to Slack (another name of sink.slack).",
    sink=_sink,
    roles=frozenset({"sink"}),
    preview=_PREVIEW,
)

__all__ = ["NOTIFICATION_SLACK", "SINK_SLACK"]
