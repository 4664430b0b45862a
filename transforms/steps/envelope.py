"""The CloudEvents attributes of what a publish step publishes, for a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from connectors.batch import Column
from connectors.contracts import Attribute
from transforms.executions import Executions

_CARRIED = frozenset({"traceparent", "tracestate", "operation", "sequence", "unchangedtoast"})
"""Extensions that say something about the data, wherever it goes: its trace, what a change did to its
row and which of its columns it left out, and where it stands among the others of its source."""
_JSON = "application/json"


class Envelope:
    """Makes the attributes of one publish step; nothing here can fail."""

    __slots__ = ("_id_seed", "_source")

    def __init__(self, flow: str, pipeline: str, step: str) -> None:
        self._source = f"/penstock/{flow}/{pipeline}"
        self._id_seed = blake2b(f"{pipeline}\0{step}\0".encode(), digest_size=16)

    def attributes(
        self,
        executions: Executions,
        indexes: Sequence[int],
        keys: Sequence[str | None],
        event_type: str | Column | None,
        *,
        passed_on: bool,
    ) -> dict[str, Attribute]:
        """Return name → one value for all, or one per event (None: absent there).

        `passed_on` says that the data is the trigger's, byte for byte: what describes it
        (datacontenttype, dataschema) is the trigger's too.
        """

        def column(name: str) -> Column:
            return executions.picked(executions.events.column(name), indexes)

        found: dict[str, Attribute] = {
            "id": self.ids(column("source"), _event_ids(executions, indexes)),
            "source": self._source,
            "type": column("type") if event_type is None else event_type,
        }
        _add(found, "subject", column("subject"))
        _add(found, "time", column("time"))
        found["datacontenttype"] = _JSON
        if passed_on:
            media = [one or _JSON for one in column("datacontenttype")]
            found["datacontenttype"] = _single(media)
            _add(found, "dataschema", column("dataschema"))
        _add(found, "partitionkey", keys)
        for name, values in executions.events.extension_columns().items():
            if name in _CARRIED:
                _add(found, name, executions.picked(values, indexes))
        return found

    def ids(self, sources: Column, ids: Column) -> list[str]:
        """Return 32 hex digits per event, the same whenever the event is delivered again."""
        seed = self._id_seed
        if sources and sources.count(sources[0]) == len(sources):
            seed = seed.copy()
            seed.update(_bytes(f"{sources[0]}\0"))
            return [_digest(seed, event_id) for event_id in ids]
        pairs = zip(sources, ids, strict=True)
        return [_digest(seed, f"{source}\0{event_id}") for source, event_id in pairs]


def _event_ids(executions: Executions, indexes: Sequence[int]) -> Column:
    """Return the events' ids; in a loop each with its pass, which publishes an event of its own."""
    ids = executions.picked(executions.events.column("id"), indexes)
    if executions.passes is None:
        return ids
    numbers = executions.picked(executions.passes, indexes)
    return [f"{one}\0{number}" for one, number in zip(ids, numbers, strict=True)]


def _digest(seed: Any, text: str) -> str:
    made = seed.copy()
    made.update(text.encode("utf-8", "surrogatepass"))
    return made.hexdigest()  # type: ignore[no-any-return]  # hashlib has no type for its objects


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _add(found: dict[str, Attribute], name: str, column: Sequence[Any]) -> None:
    if any(value is not None for value in column):
        found[name] = _single(column)


def _single(column: Sequence[Any]) -> Attribute:
    """Return the one value that all have, or the column as a list."""
    first = column[0]
    whole = column if isinstance(column, list) else list(column)
    return first if whole.count(first) == len(whole) else whole
