"""Messages that may hold a CloudEvent: what their batches' columns have in common.

A batch's `state` has `envelopes`: per message the attributes of its CloudEvent or None; None
itself where no message of the batch has one.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime, timezone
from typing import Any

import orjson

from connectors.batch import Batch, Column, Maker
from connectors.cloudevents import Scalar

Envelopes = list["dict[str, Scalar] | None"]

_CONTEXT = frozenset(
    (
        *("specversion", "id", "source", "type"),
        *("subject", "time", "datacontenttype", "dataschema"),
    )
)
_FRACTION = re.compile(r"\.(\d+)")


BASE64_KEY = "base64:"
"""What a key begins with whose bytes are no text; its base64 follows."""


def holds_event(body: bytes) -> bool:
    """Whether a body without headers is a CloudEvent in structured mode: it has a specversion.

    Looks for the word first: what does not have it is not decoded.
    """
    if b'"specversion"' not in body:
        return False
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and "specversion" in document


def attribute(name: str, plain: Maker) -> Maker:
    """Return a maker: the envelope's attribute, and what `plain` says of messages without one."""

    def make(batch: Batch) -> Column:
        envelopes = batch.state.envelopes
        if envelopes is None:
            return plain(batch)
        plains = plain(batch) if None in envelopes else []
        return [
            plains[index] if envelope is None else envelope.get(name)
            for index, envelope in enumerate(envelopes)
        ]

    return make


def absent(batch: Batch) -> Column:
    """Make a column without entries."""
    return [None] * batch.size


def json_types(batch: Batch) -> Column:
    """Make the `datacontenttype` of messages that say nothing."""
    return ["application/json"] * batch.size


def own_extensions(envelope: dict[str, Scalar]) -> dict[str, Any]:
    """Return an envelope's extension attributes."""
    return {name: value for name, value in envelope.items() if name not in _CONTEXT}


def fill_keys(keys: Column, envelopes: Envelopes | None) -> None:
    """Put the `partitionkey` of its event where a message has no key."""
    if envelopes is None or None not in keys:
        return
    for index, envelope in enumerate(envelopes):
        if keys[index] is None and envelope and "partitionkey" in envelope:
            keys[index] = str(envelope["partitionkey"])


def event_times(envelopes: Envelopes | None, arrived: list[float | None]) -> Column:
    """Return the events' own times in seconds; the messages' where an event has none."""
    if envelopes is None:
        return arrived
    found: Column = []
    for envelope, at in zip(envelopes, arrived, strict=True):
        time = envelope.get("time") if envelope else None
        found.append(at if time is None else epoch_seconds(str(time), at))
    return found


def epoch_seconds(time: str, fallback: float | None) -> float | None:
    """Return an RFC 3339 time in seconds since the epoch; `fallback` for what is none."""
    text = time[:-1] + "+00:00" if time[-1:] in {"Z", "z"} else time
    # Python 3.10 reads fractions of three or six digits only.
    text = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return fallback
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()


def rfc3339(seconds: float | None) -> str | None:
    """Return a time as CloudEvents write it, in milliseconds; None for one beyond the calendar."""
    if seconds is None:
        return None
    try:
        at = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of_key(key: bytes) -> str:
    """Return a key as text; `base64:…` where its bytes are none, or hold what databases can't."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        pass
    else:
        if "\0" not in text:
            return text
    return BASE64_KEY + base64.b64encode(key).decode()
