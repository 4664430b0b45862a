"""Confluent's wire format for JSON Schema: a zero, the schema's id in four bytes, the JSON text.

Reading takes the id off and asks no registry: the schema says what the data is like, not how to read it.
Publishing asks one for the id; see `schema_ids`.
"""

from __future__ import annotations

from connectors.batch import Batch, Column
from connectors.errors import PermanentError

_MAGIC = 0
_PREFIX = 5
ID_HEADER = "__value_schema_id"
"""Where newer serializers put it instead: the value is then JSON alone."""


def open_values(batch: Batch, raws: Column, headers: Column) -> list[int | None]:
    """Take the ids off the values, in place; return them. What has none fails by itself."""
    ids: list[int | None] = [None] * batch.size
    wires: list[bytes | None] = [None] * batch.size
    for index, value in enumerate(raws):
        if value is None:
            continue  # a tombstone
        if len(value) > _PREFIX and value[0] == _MAGIC:
            ids[index] = int.from_bytes(value[1:_PREFIX], "big")
            wires[index], raws[index] = value, value[_PREFIX:]
        elif not any(name == ID_HEADER for name, _ in headers[index] or ()):
            batch.errors[index] = PermanentError(
                "the value does not begin with the id of a schema.",
                code="confluent_prefix",
                hint="Confluent's format is a zero byte, four bytes of the id, then the JSON; what is"
                " written without it is read with `format: auto` or `json`.",
            )
            wires[index], raws[index] = value, None
    batch.columns["wire"] = wires
    return ids


def prefix_of(schema_id: int) -> bytes:
    """Return what stands before a value."""
    return bytes([_MAGIC]) + schema_id.to_bytes(4, "big")
