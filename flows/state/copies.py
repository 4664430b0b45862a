"""Copies of dead letters for the sink that their pipeline names, as the state store keeps them.

A copy is stored with its dead letter, in one transaction, and forgotten once the sink has confirmed it:
that makes it at least once, whatever dies in between. It holds the letter as it was then, so that
neither discarding nor replaying the letter takes anything away from it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from connectors.batch import Arrival
from connectors.errors import PenstockError, PermanentError
from flows.state.jsontext import json_text
from flows.state.records import DeadLetter, LetterCopy
from flows.state.rows import letter_row


@dataclass(frozen=True, slots=True)
class CopiedLetter:
    """What a copy is made from."""

    letter: DeadLetter
    arrival: Arrival | None
    """The message that failed, where its source is a broker."""
    acting: str
    """The type of what failed: a step's, or the source's where it was before the first step."""
    failure: str
    """The class of the error, with its module."""


def letter_copy(
    letter: DeadLetter, arrival: Arrival | None, *, acting: str, error: PenstockError | None
) -> LetterCopy:
    """Return the copy of a dead letter."""
    kind = PermanentError if error is None else type(error)
    row = letter_row(letter) | {"wire": _text(letter.wire)}
    body = {
        "letter": row,
        "arrival": None if arrival is None else _arrival_row(arrival),
        "acting": acting,
        "failure": f"{kind.__module__}.{kind.__qualname__}",
    }
    return LetterCopy(letter.id, letter.pipeline, letter.last_failed_at, json_text(body))


def read_copy(body: bytes) -> CopiedLetter:
    """Return what `letter_copy` has stored. Raises KeyError, TypeError, ValueError if it can't be."""
    found: dict[str, Any] = json.loads(body)
    letter = DeadLetter(**found["letter"])
    arrival = found["arrival"]
    return CopiedLetter(
        replace(letter, wire=_bytes(found["letter"]["wire"])),
        None if arrival is None else _arrival_of(arrival),
        found["acting"],
        found["failure"],
    )


def pack_arrival(arrival: Arrival | None) -> bytes | None:
    """Return a message as bytes, for an execution that is set aside."""
    return None if arrival is None else json_text(_arrival_row(arrival))


def unpack_arrival(packed: bytes | None) -> Arrival | None:
    """Return what `pack_arrival` was given."""
    return None if packed is None else _arrival_of(json.loads(packed))


def _arrival_row(arrival: Arrival) -> dict[str, Any]:
    return {
        "topic": arrival.topic,
        "partition": arrival.partition,
        "offset": arrival.offset,
        "key": _text(arrival.key),
        "value": _text(arrival.value),
        "headers": [(name, _text(value)) for name, value in arrival.headers],
    }


def _arrival_of(row: Mapping[str, Any]) -> Arrival:
    return Arrival(
        row["topic"],
        row["partition"],
        row["offset"],
        _bytes(row["key"]),
        _bytes(row["value"]),
        tuple((name, _bytes(value)) for name, value in row["headers"]),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
