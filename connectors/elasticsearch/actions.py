"""The bulk API's lines, and what it answers for each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_NO_BREAKS = bytes.maketrans(b"\r\n", b"  ")
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Action:
    """One event's document."""

    place: int
    id: str | None
    lines: bytes
    """What the bulk call has of it, each line with its line feed."""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.lines)


def make_action(
    place: int,
    operation: str,
    meta: Mapping[str, Any],
    document: bytes | None,
) -> Action:
    """Return the lines of one event. Raises PermanentError when it has no document to be written."""
    verb = {"upsert": "update", "merge": "index"}.get(operation, operation)
    head = orjson.dumps({verb: meta}) + b"\n"
    if verb == "delete":
        return Action(place, meta.get("_id"), head)
    if document is None:
        raise PermanentError(
            "the event has no data to make a document of.",
            code="elasticsearch_document",
            hint="Use `operation: merge` for tombstones' deletes, or keep such events out.",
        )
    body = document.translate(_NO_BREAKS)
    if verb == "update":
        ending = b',"doc_as_upsert":true}' if operation == "upsert" else b"}"
        body = b'{"doc":' + body + ending
    return Action(place, meta.get("_id"), head + body + b"\n")


def version_of(time: Any) -> int:
    """Return the version that a document gets by its event's time: microseconds since the epoch.

    Raises PermanentError for an event without a time.
    """
    try:
        at = datetime.fromisoformat(str(time).replace("Z", "+00:00"))
    except ValueError as error:
        raise PermanentError(
            "the event has no time that `keep_newer` could go by.",
            code="elasticsearch_document",
            hint="Let its source or the publish step give it one.",
        ) from error
    return int(at.timestamp() * 1_000_000)


def error_of_item(
    answer: Mapping[str, Any], *, versioned: bool, own_index: bool
) -> PenstockError | None:
    """Return None for a document that is as the event says, or newer."""
    (verb, item) = next(iter(answer.items()))
    status = int(item.get("status", 500))
    if status < 300:
        return None
    error = item.get("error") or {}
    kind = str(error.get("type", "")) if isinstance(error, dict) else ""
    reason = str(error.get("reason", "")) if isinstance(error, dict) else str(error)
    if status == 404 and verb == "delete" and not error:
        return None  # it is gone already
    if status == 409 and (verb == "create" or versioned):
        return None  # there already: a redelivery; or a newer one is
    said = f"{kind}: {reason}"[:_SHOWN].rstrip(": .")
    about: dict[str, Any] = {"status": status, "type": kind}
    if status == 429 or status >= 500 or kind == "cluster_block_exception" or status == 409:
        return RetryableError(
            f"the cluster did not take the document yet: {said}.",
            code="elasticsearch_unavailable",
            hint="It is tried again.",
            **about,
        )
    if kind == "security_exception":
        return FatalError(
            f"the cluster refused: {said}.",
            code="elasticsearch_refused",
            hint="Give the user the right to write to the index.",
            **about,
        )
    if kind == "index_not_found_exception" and not own_index:
        return FatalError(
            f"the cluster has no such index: {said}.",
            code="elasticsearch_refused",
            hint="Create it, or allow it to be created (action.auto_create_index).",
            **about,
        )
    return PermanentError(
        f"the cluster refused the document: {said}.",
        code="elasticsearch_document",
        hint="Correct the event or the index's mapping, then replay it.",
        **about,
    )
