"""A failed execution as a dead letter: all that is needed to see why, and to try again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson

from connectors.batch import Batch, Change, Event
from connectors.cloudevents import structured
from connectors.contracts import Outgoing
from connectors.errors import PermanentError
from flows.state.jsontext import json_text
from flows.state.records import DeadLetter
from transforms.executions import UNSET, Executions, derive_uuid7

NO_ERROR = PermanentError(
    "the execution failed and no step said why.",
    code="failed_without_error",
    hint="The step's code marked it so; see its log.",
)


_TYPE, _TENANT = 250, 100
"""Characters of them that are found by: PostgreSQL refuses what makes an index entry too long, and
with it the whole settlement. The event has them in full."""


def shortened(text: str, most: int) -> str:
    """Return at most so many characters of a text."""
    return text if len(text) <= most else text[: most - 1] + "…"


def dead_letter(
    executions: Executions,
    index: int,
    *,
    flow: str,
    flow_version: str,
    source_module: str,
    tenant: str,
    now: float,
    redact: Callable[[str], str] = str,
) -> DeadLetter:
    """Return the dead letter of the failed execution `index`; never raises for its event.

    `redact` masks the flow's secrets in the error, where a server may have said them back. Event
    and outputs are kept as they are: a replay needs them.

    The event's data is embedded byte for byte, so a replay sees the digits that arrived. Data that
    is not JSON stands as `data_base64`, and in `wire` unless the source kept what arrived there.
    """
    batch = executions.events
    ended = executions.ended[index]
    error = ended.error or NO_ERROR
    raw: bytes | None = batch.column("raw")[index]
    wire: bytes | None = batch.column("wire")[index]
    is_json = raw is None or _is_json(raw)
    if wire is None and not is_json:
        wire = raw
    event = _envelope(batch, index)
    return DeadLetter(
        id=execution_id(executions, index, source_module),
        flow=flow,
        flow_version=flow_version,
        pipeline=executions.pipeline,
        step=ended.step,
        source=source_module,
        partition=batch.column("partition")[index] or "",
        position=batch.column("position")[index] or "",
        event_id=event.id or "",
        event_type=shortened(event.type or "", _TYPE),
        tenant=shortened(tenant, _TENANT),
        error_code=error.code,
        error_kind=error.kind,
        error_message=redact(error.message),
        error_hint=redact(error.hint),
        context=redact(json_text(error.context).decode()),
        event=_event_text(event.attributes(), raw, is_json=is_json),
        wire=wire,
        outputs=_outputs_text(executions, index),
        attempts=1,
        first_failed_at=now,
        last_failed_at=now,
        change=change_text(batch.column("change")[index]),
        key=batch.column("key")[index],
        compensation=_compensation_text(executions, index, redact),
        details=_details_text(executions, index),
    )


def _envelope(batch: Batch, index: int) -> Event:
    """Return the event without its data, which nothing needs to decode for this."""
    names = ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
    attributes: dict[str, Any] = {name: batch.column(name)[index] for name in names}
    extensions = batch.column("extensions")[index] or {}
    return Event(data=None, extensions=extensions, **attributes)


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def event_text(batch: Batch, index: int) -> str:
    """Return an event as a CloudEvent in structured mode, its data byte for byte as it came."""
    raw: bytes | None = batch.column("raw")[index]
    attributes = _envelope(batch, index).attributes()
    return _event_text(attributes, raw, is_json=raw is None or _is_json(raw))


def _event_text(attributes: dict[str, Any], raw: bytes | None, *, is_json: bool) -> str:
    """Return the CloudEvent in structured mode. An attribute that could not be read is absent."""
    outgoing = Outgoing([raw if is_json else None], [None], lambda: attributes)
    document = structured(outgoing)[0]
    if raw is not None and not is_json:
        document = document[:-1] + b',"data_base64":"' + base64.b64encode(raw) + b'"}'
    return document.decode()


def change_text(change: Change | None) -> str | None:
    """Return a row's change as JSON text."""
    if change is None:
        return None
    parts = {"operation": change.operation, "before": change.before, "after": change.after}
    return json_text(parts).decode()


def _compensation_text(
    executions: Executions, index: int, redact: Callable[[str], str]
) -> str | None:
    undone = executions.undone.get(index)
    return None if undone is None else redact(json_text(undone).decode())


def _outputs_text(executions: Executions, index: int) -> str:
    """Return the outputs so far as a JSON object, in the order of the steps."""
    members = []
    for name, column in executions.outputs.items():
        value = column[index]
        if value is UNSET:
            continue
        encoded = executions.encoded.get(name)
        text = encoded[index] if encoded is not None and len(encoded) == len(column) else None
        members.append(json_text(name) + b":" + (json_text(value) if text is None else text))
    return (b"{" + b",".join(members) + b"}").decode()


def _details_text(executions: Executions, index: int) -> str | None:
    """Return what steps had beside their outputs, of those that had an output."""
    found = {
        name: column[index]
        for name, column in executions.details.items()
        if column[index]
        and name in executions.outputs
        # What failed has none, though it may have had an answer: its error tells of that.
        and executions.outputs[name][index] is not UNSET
    }
    return json_text(found).decode() if found else None


def execution_id(executions: Executions, index: int, source_module: str) -> str:
    """Return the execution's id; of an event whose own id can't be read, one of its place."""
    batch = executions.events
    if batch.column("id")[index] is not None and batch.column("source")[index] is not None:
        return executions.execution_id(index)
    place = (
        source_module,
        str(batch.column("partition")[index]),
        str(batch.column("position")[index]),
    )
    at = batch.column("timestamp")[index]
    return derive_uuid7(at or 0.0, *place, executions.pipeline)
