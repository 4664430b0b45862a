"""Dead letters as JSON: what lists and answers show, and what sinks get that take no messages as they are."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import orjson

from flows.state.records import DeadLetter

if TYPE_CHECKING:
    from flows.state.copy_store import CopyStatus


def summary(letter: DeadLetter) -> dict[str, Any]:
    """Return what a list shows, JSON-able."""
    return {
        "id": letter.id,
        "flow": letter.flow,
        "pipeline": letter.pipeline,
        "step": letter.step,
        "event_id": letter.event_id,
        "event_type": letter.event_type,
        "tenant": letter.tenant,
        "error": {
            "code": letter.error_code,
            "kind": letter.error_kind,
            "message": letter.error_message,
        },
        "attempts": letter.attempts,
        "status": letter.status,
        "replays": letter.replays,
        "first_failed_at": when(letter.first_failed_at),
        "last_failed_at": when(letter.last_failed_at),
    }


def detail(letter: DeadLetter, copy: CopyStatus | None = None) -> dict[str, Any]:
    """Return all of it for `orjson.dumps`: what is stored as JSON stands there digit for digit.

    `copy`: what keeps its copy from the sink of dead letters.
    """
    shown = summary(letter)
    shown["error"] |= {"hint": letter.error_hint, "context": orjson.Fragment(letter.context)}
    shown |= {
        "flow_version": letter.flow_version,
        "replay": letter.replay,
        "source": letter.source,
        "partition": letter.partition,
        "position": letter.position,
        "key": letter.key,
        "event": orjson.Fragment(letter.event),
        "change": None if letter.change is None else orjson.Fragment(letter.change),
        "outputs": orjson.Fragment(letter.outputs),
        "details": None if letter.details is None else orjson.Fragment(letter.details),
        "begins_at": letter.begins_at,
        "compensation": None
        if letter.compensation is None
        else orjson.Fragment(letter.compensation),
        "tries": orjson.Fragment(letter.tries),
        "copy": None if copy is None else asdict(copy),
        "wire_base64": None if letter.wire is None else base64.b64encode(letter.wire).decode(),
    }
    return shown


def when(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
