"""From what a case writes to a batch, as the flow's source would make it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from connectors.batch import Batch, Change, Operation
from connectors.errors import FlowFileError
from flows.state.jsontext import json_text
from flows.testing.model import EventInput
from transforms.expressions import compile_template

if TYPE_CHECKING:
    from flows.plan import SourcePlan

BEGINNING = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""Time of a case's first event, where it has none of its own: the same in every run."""

_PARTITION = "test"


def batch_of(inputs: Sequence[EventInput], source: SourcePlan | None) -> Batch:
    """Return the events as one batch. Raises FlowFileError for one that can't be made."""
    rows = [_row(one, number, source) for number, one in enumerate(inputs)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Batch(len(rows), columns, after={_PARTITION: columns["position"][-1]})


def _row(one: EventInput, number: int, source: SourcePlan | None) -> dict[str, Any]:
    time = one.time or _written(BEGINNING + timedelta(seconds=number))
    row: dict[str, Any] = {
        "raw": _raw(one),
        "key": one.key,
        "partition": _PARTITION,
        "position": f"{number + 1:012}",
        "id": one.id or f"event-{number + 1}",
        "source": one.source or "/test",
        "type": one.type or "test.event",
        "subject": one.subject,
        "time": time,
        "timestamp": _seconds(time),
        "datacontenttype": one.datacontenttype,
        "dataschema": one.dataschema,
        "extensions": dict(one.extensions),
        "change": None,
        "wire": None,
    }
    if one.is_change:
        row |= _change(one, source, row["extensions"])
    elif source is not None and source.type in {"source.kafka", "messaging.kafka"}:
        topics = source.settings.topics or ["test"]
        row["source"] = one.source or f"/kafka/{topics[0]}"
        row["type"] = one.type or f"{topics[0]}.message"
    if one.key is not None:
        row["extensions"].setdefault("partitionkey", one.key)
    return row


def _raw(one: EventInput) -> bytes | None:
    """Return the data as it travels: None where there is none."""
    if one.raw is not None:
        return one.raw.encode()
    return json_text(one.data) if "data" in one.model_fields_set else None


def _change(
    one: EventInput, source: SourcePlan | None, extensions: dict[str, Any]
) -> dict[str, Any]:
    """Return the columns of a row's change, with what the source's settings say of them."""
    settings = source.settings if source is not None else None
    output = getattr(settings, "output", None)
    operation = one.operation or _operation(one)
    row: dict[str, Any] = {"change": Change(operation, one.before, one.after)}
    if "data" not in one.model_fields_set and one.raw is None:
        row["raw"] = json_text(_data(one, output, operation))
    table = one.table or _only_table(settings)
    template = getattr(output, "type_template", None)
    if one.type is None and template is not None:
        if table is None:
            raise FlowFileError(
                "the event does not say which table its row is of.",
                code="tests_event",
                hint=f"Add `table: schema.table`; the source reads {_tables(settings)}.",
            )
        schema, _, name = table.rpartition(".")
        at = {"schema": schema or "public", "table": name, "operation": operation}
        row["type"] = compile_template(template).render(at)
    row["subject"] = one.subject or table
    extensions.setdefault("operation", operation)
    if one.source is None and source is not None:
        row["source"] = f"/postgres/test/{getattr(settings, 'slot_name', source.name)}"
    return row


def _operation(one: EventInput) -> Operation:
    if one.after is None:
        return "DELETE"
    return "INSERT" if one.before is None else "UPDATE"


def _data(one: EventInput, output: Any, operation: Operation) -> Any:
    """Return `data` as the source would: the row, or what `include_before`, `include_after` ask for."""
    parts: dict[str, Any] = {}
    if getattr(output, "include_before", False):
        parts["before"] = one.before
    if getattr(output, "include_after", False):
        parts["after"] = one.after
    if parts:
        return parts
    return one.before if operation == "DELETE" else one.after


def _only_table(settings: Any) -> str | None:
    tables = getattr(settings, "tables", None) or []
    return tables[0].name if len(tables) == 1 else None


def _tables(settings: Any) -> str:
    return ", ".join(table.name for table in getattr(settings, "tables", None) or [])


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(time: str) -> float | None:
    """Return a time as Unix seconds; None for text that is none, which a schema may be about."""
    try:
        found = datetime.fromisoformat(time.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
