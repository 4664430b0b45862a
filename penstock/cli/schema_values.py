"""The values that a schema is drafted from: a file's, or those of recorded events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from connectors.errors import FlowFileError
from flows.state.chunk_store import ChunkFilter
from flows.state.history import decode_chunk
from penstock.cli.schema_registry import read_text
from penstock.cli.stored import Stored, open_stored

_TOGETHER = 20
"""Chunks that are read at once."""


def read_values(file: Path) -> Iterator[Any]:
    """Yield the JSON values of a file; of a list its items, of a CloudEvent its data."""
    text, at = read_text(file), 0
    decoder = json.JSONDecoder()
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, at) + 1
            raise FlowFileError(
                f"{file}:{line}: this is not JSON: {error}.",
                code="json_invalid",
                hint="Write one JSON value after the other.",
            ) from None
        for each in value if isinstance(value, list) else [value]:
            yield each.get("data") if isinstance(each, dict) and "specversion" in each else each


@contextmanager
def recorded_values(
    flows: Sequence[Path],
    state: str | None,
    pipeline: str | None,
    event_type: str | None,
    limit: int,
) -> Iterator[Iterator[Any]]:
    """Give the data of recorded events, the newest chunks first."""
    with open_stored(flows, state, None) as stored:
        if pipeline is not None:
            stored.check_pipeline(pipeline)
        yield islice(_recorded(stored, pipeline, event_type), limit)


def _recorded(stored: Stored, pipeline: str | None, event_type: str | None) -> Iterator[Any]:
    assert stored.flow is not None  # noqa: S101 - a flow file was named
    wanted = ChunkFilter(stored.flow, pipeline, event_type=event_type)
    before: tuple[float, int] | None = None
    chunks = stored.store.chunks
    while rows := chunks.page(wanted, _TOGETHER, before):
        bodies = chunks.bodies([row.id for row in rows])
        for row in rows:
            if row.id in bodies:
                yield from _events(bodies[row.id], event_type)
        before = (rows[-1].recorded_at, rows[-1].id - 1)


def _events(body: bytes, event_type: str | None) -> Iterator[Any]:
    events = decode_chunk(body).executions.events
    types, data = events.column("type"), events.column("data")
    for index, value in enumerate(data):
        if index in events.errors:
            continue
        if event_type is None or fnmatchcase(types[index] or "", event_type):
            yield value
