"""JSON Lines: a batch of outgoing events as text, one line per event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from connectors.cloudevents import structured
from connectors.contracts import Outgoing

LineFormat = Literal["json", "cloudevents_json"]

_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def lines_of(events: Outgoing, line_format: LineFormat) -> Sequence[bytes]:
    """Return a JSON text per event; as `json`, an event without data is `null`."""
    if line_format == "cloudevents_json":
        return structured(events)
    return [b"null" if value is None else value for value in events.values]


def joined(lines: Sequence[bytes]) -> bytes:
    """Return the texts, each as one line that ends in a line feed.

    A text with line breaks of its own is flattened: JSON has them only between its tokens.
    """
    content = b"\n".join(lines) + b"\n"
    if content.count(b"\n") != len(lines) or b"\r" in content:
        content = b"\n".join([line.translate(_NO_BREAKS) for line in lines]) + b"\n"
    return content
