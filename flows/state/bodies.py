"""The bodies of executions that wait: each a chunk (flows.state.history) of its own.

What waits is written one by one and read one by one, at most a few in a batch of many. So what all of
a batch share is made once, and what is short is not compressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.batch import Column
from flows.state.copies import pack_arrival
from flows.state.errors import error_row
from flows.state.history import VERSION, columns_of, compress, times_of_steps
from flows.state.jsontext import json_text
from transforms.executions import UNSET, Executions

_PLAIN = 4096
"""Bytes up to which a body is kept as it is: about a page of the database, compressed or not."""


def encode_each(
    executions: Executions, indexes: Sequence[int], *, with_arrivals: bool = False
) -> list[bytes]:
    """Return for each index the body of its execution so far, for `decode_chunk`.

    Nothing is made for the others. `with_arrivals`: with the messages that they arrived as, for copies
    of their dead letters. Never raises for what a step put out.
    """
    few = executions.few(indexes)
    columns, makers = columns_of(few)
    if with_arrivals:
        columns["arrival"] = list(map(pack_arrival, few.column("arrival")))
    shared = json_text(
        {
            "version": VERSION,
            "size": 1,
            "indexes": None,
            "pipeline": executions.pipeline,
            "started": executions.started,
            "meta": executions.base_meta,
            "derived": makers,
            "ended": [],
            "errors": [],
            **times_of_steps(executions),
        }
    )[:-1]
    raws = few.column("raw")
    return [
        _body(executions, index, shared, columns=columns, place=place, raw=raws[place])
        for place, index in enumerate(indexes)
    ]


def _body(
    executions: Executions,
    index: int,
    shared: bytes,
    *,
    columns: Mapping[str, Column],
    place: int,
    raw: bytes | None,
) -> bytes:
    """`place`: where the execution's event is in `columns`; `shared`: the header's other part."""
    lengths: list[list[int]] = []
    parts: list[bytes] = []

    def keep(value: bytes | None) -> int:
        lengths.append([-1 if value is None else len(value)])
        parts.append(value or b"")
        return len(lengths) - 1

    keep(raw)
    kept: dict[str, Any] = {}
    for name, column in columns.items():
        value = column[place]
        kept[name] = {"section": keep(value)} if type(value) is bytes else {"each": [value]}
    outputs: dict[str, Column | None] = {}
    encoded: dict[str, int] = {}
    for name, column in executions.outputs.items():
        if column[index] is UNSET:
            continue
        text = _text_of(executions.encoded.get(name), executions.events.size, index)
        if text is None:
            outputs[name] = [column[index]]
        else:
            outputs[name] = None
            encoded[name] = keep(text)
    own = {
        "columns": kept,
        "keys": None if executions.keys is None else [executions.keys[index]],
        "outputs": outputs,
        "encoded": encoded,
        "details": {
            name: [column[index]]
            for name, column in executions.details.items()
            if column[index] is not None and column[index] is not UNSET
        },
        "passed_over": {
            step: [(0, error_row(errors[index]))]
            for step, errors in executions.passed_over.items()
            if index in errors
        },
        "runs": _own(executions.runs, index),
        "took_before": _own(executions.took_before, index),
        "starts": _own(executions.starts, index),
        "sections": lengths,
    }
    body = b"\n".join([shared + b"," + json_text(own)[1:], *parts, b""])
    return body if len(body) <= _PLAIN else compress([body])


def _own(found: Mapping[int, Any], index: int) -> list[tuple[int, Any]]:
    return [(0, found[index])] if index in found else []


def _text_of(encoded: Sequence[bytes | None] | None, size: int, index: int) -> bytes | None:
    """Return an output as a step has encoded it, where it has encoded the whole column."""
    return None if encoded is None or len(encoded) != size else encoded[index]
