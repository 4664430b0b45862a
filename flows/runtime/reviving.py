"""Dead letters as events again: each exactly as it arrived, or with the data it was edited to. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from connectors.batch import Batch, Change, Column
from connectors.cloudevents import decode_structured, split_structured
from connectors.enveloping import epoch_seconds
from connectors.errors import PermanentError
from flows.state.records import DeadLetter

_CONTEXT = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
_NOT_EXTENSIONS = {*_CONTEXT, "specversion", "data_base64"}

_NOTHING_KEPT = frozenset({"row_undecodable"})
"""Codes of errors of a source that could read nothing of an event: without an edit it fails again."""


def revived(letters: Sequence[DeadLetter], edited: Sequence[str | None]) -> Batch:
    """Return the letters' events as a batch; `edited` has the data of those that were edited.

    What could not be decoded when it came is decoded anew from its bytes; what still can't be is
    in the batch's `errors`.
    """
    rows = [_row(letter, edit) for letter, edit in zip(letters, edited, strict=True)]
    columns: dict[str, Column] = {}
    if rows:
        columns = {name: [row[name] for row, _ in rows] for name in rows[0][0]}
    batch = Batch(len(rows), columns, after={})
    batch.errors.update({k: error for k, (_, error) in enumerate(rows) if error is not None})
    return batch


def event_of(letter: DeadLetter) -> tuple[dict[str, Any], bytes | None, PermanentError | None]:
    """Return the event's attributes, its data as it arrived, and why that can't be read, if so."""
    attributes, raw = split_structured(letter.event.encode())
    encoded = attributes.pop("data_base64", None)
    if encoded is not None:
        return attributes, base64.b64decode(encoded), None
    if raw is not None or letter.step is not None:
        return attributes, raw, None
    if letter.wire is not None:
        try:
            decoded = decode_structured(letter.wire)
        except PermanentError:
            return attributes, None, _as_it_was(letter)
        return dict(decoded.attributes), decoded.raw, None
    error = _as_it_was(letter) if letter.error_code in _NOTHING_KEPT else None
    return attributes, raw, error


def outputs_of(letter: DeadLetter) -> dict[str, Any]:
    """Return the outputs of the steps that had run."""
    found: dict[str, Any] = json.loads(letter.outputs)
    return found


def details_of(letter: DeadLetter) -> dict[str, Any]:
    """Return what those steps had beside their outputs."""
    found: dict[str, Any] = {} if letter.details is None else json.loads(letter.details)
    return found


def _row(letter: DeadLetter, edit: str | None) -> tuple[dict[str, Any], PermanentError | None]:
    attributes, raw, error = event_of(letter)
    change = _change(letter)
    if edit is not None:
        if change is not None and raw is not None and change.after == _loaded(raw):
            change = Change(change.operation, change.before, json.loads(edit))
        raw, error = edit.encode(), None
    row: dict[str, Any] = {name: attributes.get(name) for name in _CONTEXT}
    # Without these no execution has an id; of an event that could not be read they may be missing.
    row["id"] = row["id"] or letter.id
    row["source"] = row["source"] or letter.source
    row |= {
        "raw": raw,
        "key": letter.key if letter.key is not None else attributes.get("partitionkey"),
        "partition": letter.partition,
        "position": letter.position,
        "timestamp": epoch_seconds(str(row["time"]), letter.first_failed_at),
        "extensions": {k: v for k, v in attributes.items() if k not in _NOT_EXTENSIONS},
        "change": change,
        "wire": letter.wire,
    }
    return row, error


def _change(letter: DeadLetter) -> Change | None:
    if letter.change is None:
        return None
    parts = json.loads(letter.change)
    return Change(parts["operation"], parts["before"], parts["after"])


def _loaded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _as_it_was(letter: DeadLetter) -> PermanentError:
    return PermanentError(
        letter.error_message,
        code=letter.error_code,
        hint=letter.error_hint,
        **json.loads(letter.context),
    )
