"""A dead letter's copy as what its sink takes: a broker's message, or a CloudEvent. Pure.

To a broker goes the message that failed, byte for byte, with headers that say why. Their names are those
of Kafka Connect's dead letter queue (KIP-298), so that what reads such a queue reads this one:

    __connect.errors.topic, .partition, .offset   where the message was (only of a message from a broker)
    __connect.errors.connector.name               the flow
    __connect.errors.task.id                      the number of the worker
    __connect.errors.stage                        VALUE_CONVERTER: before the first step (decoding, schema);
                                                  TASK_PUT: publishing; TRANSFORMATION: any other step
    __connect.errors.class.name                   the type of what failed: a step's, or the source's
    __connect.errors.exception.class.name         the class of the error
    __connect.errors.exception.message            its message
    __connect.errors.exception.stacktrace         the stack of a defect in code; else the tries that failed

What Connect has no name for is beside them, as `penstock.*`. They are text in UTF-8, as Connect's are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from connectors.cloudevents import KAFKA_PREFIX, binary_headers, bodies, split_structured
from connectors.contracts import Attribute, Outgoing, Record
from flows.state.copies import CopiedLetter
from flows.state.letter_documents import detail, when
from flows.state.records import DeadLetter

EVENT_TYPE = "penstock.dead_letter"
"""Type of the CloudEvent that carries a dead letter."""

_LONGEST = 16_000
"""Characters of a header: a broker limits a message with its headers."""

_OF_THE_STORE = ("status", "replay", "replays", "copy")
"""What changes with a letter in its store, and says nothing of a copy."""


def record_of(copied: CopiedLetter, shard: str) -> Record:
    """Return the message that failed, with the headers that say why; of an event, one made of it."""
    letter, arrival = copied.letter, copied.arrival
    added = [(name, _header(text)) for name, text in _errors(copied, shard)]
    if arrival is not None:
        return Record(arrival.key, arrival.value, (*arrival.headers, *added))
    attributes, raw = split_structured(letter.event.encode())
    attributes.pop("data_base64", None)
    outgoing = Outgoing([raw], [letter.key], lambda: attributes)
    own = binary_headers(outgoing, KAFKA_PREFIX)[0]
    value = bodies(outgoing)[0] if letter.wire is None else letter.wire
    return Record(letter.key, value, (*own, *added))


def events_of(copies: Sequence[CopiedLetter]) -> Outgoing:
    """Return a CloudEvent per dead letter, its data as `penstock dlq show --output json` has it."""
    letters = [each.letter for each in copies]

    def attributes() -> Mapping[str, Attribute]:
        found: dict[str, Attribute] = {
            "id": [letter.id for letter in letters],
            "source": [f"/penstock/{letter.flow}/{letter.pipeline}" for letter in letters],
            "type": EVENT_TYPE,
            "subject": [letter.event_id or None for letter in letters],
            "time": [when(letter.last_failed_at) for letter in letters],
            "datacontenttype": "application/json",
            "partitionkey": [letter.key for letter in letters],
        }
        return found

    return Outgoing(
        [_document(letter) for letter in letters], [letter.key for letter in letters], attributes
    )


def _document(letter: DeadLetter) -> bytes:
    shown = detail(letter)
    for name in _OF_THE_STORE:
        del shown[name]
    return orjson.dumps(shown)


def _errors(copied: CopiedLetter, shard: str) -> Iterator[tuple[str, str]]:
    letter, arrival = copied.letter, copied.arrival
    connect = "__connect.errors."
    if arrival is not None:
        yield f"{connect}topic", arrival.topic
        yield f"{connect}partition", str(arrival.partition)
        yield f"{connect}offset", str(arrival.offset)
    yield f"{connect}connector.name", letter.flow
    yield f"{connect}task.id", shard.rpartition("/")[2]
    yield f"{connect}stage", _stage(letter, copied.acting)
    yield f"{connect}class.name", copied.acting
    yield f"{connect}exception.class.name", copied.failure
    yield f"{connect}exception.message", letter.error_message
    yield f"{connect}exception.stacktrace", _stack(letter)
    yield "penstock.dead_letter.id", letter.id
    yield "penstock.flow.version", letter.flow_version
    yield "penstock.pipeline", letter.pipeline
    if letter.step is not None:
        yield "penstock.step", letter.step
    yield "penstock.error.code", letter.error_code
    yield "penstock.error.kind", letter.error_kind
    if letter.error_hint:
        yield "penstock.error.hint", letter.error_hint
    yield "penstock.attempts", str(letter.attempts)
    yield "penstock.first_failed_at", when(letter.first_failed_at)
    yield "penstock.last_failed_at", when(letter.last_failed_at)
    yield "penstock.event.id", letter.event_id
    yield "penstock.event.type", letter.event_type
    yield "penstock.source", letter.source
    yield "penstock.source.partition", letter.partition
    yield "penstock.source.position", letter.position
    yield "penstock.tenant", letter.tenant


def _stage(letter: DeadLetter, acting: str) -> str:
    if letter.step is None:
        return "VALUE_CONVERTER"
    return "TASK_PUT" if acting == "step.publish" else "TRANSFORMATION"


def _stack(letter: DeadLetter) -> str:
    context: dict[str, Any] = json.loads(letter.context)
    stack = context.get("stack")
    if stack:
        return str(stack)
    tries = json.loads(letter.tries)
    lines = [
        f"{each['at']} {each['step'] or 'before the first step'}: {each['message']} [{each['code']}]"
        for each in tries
    ]
    return "\n".join(lines) or f"{letter.error_message} [{letter.error_code}]"


def _header(text: str) -> bytes:
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return shown.encode("utf-8", "replace")
