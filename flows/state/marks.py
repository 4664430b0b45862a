"""How far processes of clusters have settled their shares of a source's events: marks, beside its checkpoints.

A mark is a row of the checkpoints whose source is its *owner*'s name, `<source>@<pipeline>:<share>`. It means
something as long as it lies behind the source's own checkpoint, which is stored later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select

from connectors.batch import Position, is_of_another
from flows.state.database import Database
from flows.state.leases import under
from flows.state.records import Lease
from flows.state.tables import checkpoints

_at = checkpoints.c

_Marks = select(_at.source, _at.partition, _at.position).where(
    _at.flow == bindparam("flow"),
    func.substr(_at.source, 1, bindparam("length")) == bindparam("begin"),
)

forget_marks = delete(checkpoints).where(
    _at.flow == bindparam("of_flow"),
    _at.partition == bindparam("of_partition"),
    func.substr(_at.source, 1, bindparam("length")) == bindparam("begin"),
)

_forget_one = delete(checkpoints).where(
    _at.flow == bindparam("of_flow"),
    _at.source == bindparam("of_owner"),
    _at.partition == bindparam("of_partition"),
    _at.position == bindparam("of_position"),
)


def owner_name(source: str, pipeline: str, share: str) -> str:
    """Return under what name a share's marks are stored."""
    return f"{source}@{pipeline}:{share}"


def share_of_owner(owner: str) -> tuple[str, str]:
    """Return the pipeline and the share that an owner's name tells."""
    pipeline, process, key = owner.partition("@")[2].rsplit(":", 2)
    return pipeline, f"{process}:{key}"


def _of_source(source: str) -> dict[str, Any]:
    return {"begin": f"{source}@", "length": len(source) + 1}


def forgotten(flow: str, source: str, partitions: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows with which `forget_marks` forgets all marks of these source partitions."""
    of = {"of_flow": flow, **_of_source(source)}
    return [{**of, "of_partition": each} for each in partitions]


class MarkStore:
    """The marks of a state store; they are stored with what they are of, by `StateStore.commit`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, flow: str, source: str) -> dict[str, dict[str, Position]]:
        """Return owner → source partition → how far its share is settled, of all there ever were."""
        values = {"flow": flow, **_of_source(source)}
        found: dict[str, dict[str, Position]] = {}
        for owner, partition, at in self._database.run(
            lambda connection: connection.execute(_Marks, values).all()
        ):
            found.setdefault(owner, {})[partition] = at
        return found

    def forget_passed(self, lease: Lease, source: str, checkpoint: Mapping[str, Position]) -> None:
        """Forget those that the source's checkpoint has passed: nothing behind them comes again.

        Were it to go back on purpose later, as for a topic that is made anew, they would hide new events.
        """
        rows = [
            {"of_flow": lease.flow, "of_owner": owner, "of_partition": partition, "of_position": at}
            for owner, positions in self.of(lease.flow, source).items()
            for partition, at in positions.items()
            if at <= checkpoint.get(partition, "") and not is_of_another(at, checkpoint[partition])
        ]

        def forget(connection: Connection) -> None:
            connection.execute(_forget_one, rows)

        if rows:
            under(self._database, lease, forget)
