"""Mails: `sink.email`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contracts import ConnectorType
from connectors.email.settings import EmailSink as EmailSinkSettings

if TYPE_CHECKING:
    from connectors.email.sink import EmailSink


def _sink(name: str, settings: EmailSinkSettings) -> EmailSink:
    from connectors.email.sink import EmailSink  # noqa: PLC0415 - a flow is read without it

    return EmailSink(name, settings)


SINK_EMAIL = ConnectorType(
    "sink.email",
    EmailSinkSettings,
    "Send a mail per event, by SMTP.",
    sink=_sink,
    roles=frozenset({"sink"}),
)

__all__ = ["SINK_EMAIL"]
