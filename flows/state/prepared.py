"""Outcomes of transactions that a sink is about to commit, kept until it is known whether it did.

A pipeline with `delivery: exactly_once` has its truth in Kafka's transaction; its history, dead
letters and parked executions are here. So the outcome is *prepared* before the commit, under the name
that the transaction will have, and settled after it. A worker that starts finds at most one prepared
outcome per shard: it asks Kafka whether the transaction of that name was committed, and settles the
outcome or throws it away.

Each shard has a row, which also says of which `layout` its worker is: which flow version, how many
workers. Another layout gives partitions to other shards, so no worker begins to read while a shard of
another layout may still commit (flows.runtime.takeover).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from connectors.batch import Position
from flows.state.database import Database
from flows.state.leases import under
from flows.state.records import Lease, Settlement
from flows.state.rows import storable
from flows.state.tables import prepared

_UPSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

_SETTLEMENTS: TypeAdapter[list[Settlement]] = TypeAdapter(
    list[Settlement], config=ConfigDict(val_json_bytes="base64")
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One shard's row."""

    shard: str
    source: str
    layout: str
    name: str
    """The transaction's; "" when none is prepared."""
    positions: Mapping[str, Position]
    """Where its commit leaves the source's partitions."""
    body: bytes

    def settlements(self) -> list[Settlement]:
        """Return the outcome."""
        return _SETTLEMENTS.validate_json(self.body)


class PreparedOutcomes:
    """The prepared outcomes of a state store. Every write is made as a lease's holder, or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._save = _save(_UPSERT[database.dialect])

    def of_source(self, flow: str, source: str) -> list[Prepared]:
        """Return the rows of all shards that ever ran the source within transactions."""
        query = select(
            prepared.c.shard,
            prepared.c.source,
            prepared.c.layout,
            prepared.c.name,
            prepared.c.positions,
            prepared.c.body,
        ).where(prepared.c.flow == flow, prepared.c.source == source)
        rows = self._database.run(lambda connection: list(connection.execute(query)))
        return [
            Prepared(shard, of, layout, name, orjson.loads(positions), bytes(body))
            for shard, of, layout, name, positions, body in rows
        ]

    def prepare(
        self,
        lease: Lease,
        source: str,
        layout: str,
        *,
        name: str,
        positions: Mapping[str, Position],
        settlements: Sequence[Settlement],
    ) -> None:
        """Keep an outcome until the transaction `name` is committed; durable on return.

        May be called again after a RetryableError. Raises FatalError `lease_lost`.
        """
        row = {
            "flow": lease.flow,
            "shard": lease.shard,
            "source": source,
            "layout": layout,
            "name": name,
            "positions": orjson.dumps(dict(positions)).decode(),
            "body": encoded(settlements),
        }
        self._under(lease, self._save, row)

    def enter(self, lease: Lease, source: str, layout: str) -> None:
        """Say that this shard is of a layout, and forget what is prepared for it."""
        self.prepare(lease, source, layout, name="", positions={}, settlements=[])

    def leave(self, lease: Lease) -> None:
        """Forget the shard."""
        gone = delete(prepared).where(
            prepared.c.flow == bindparam("of_flow"), prepared.c.shard == bindparam("of_shard")
        )
        self._under(lease, gone, {"of_flow": lease.flow, "of_shard": lease.shard})

    def _under(self, lease: Lease, statement: Any, row: dict[str, Any]) -> None:
        def execute(connection: Connection) -> None:
            connection.execute(statement, row)

        under(self._database, lease, execute)


forget_prepared = (
    update(prepared)
    .where(
        prepared.c.flow == bindparam("of_flow"),
        prepared.c.shard == bindparam("of_shard"),
        prepared.c.name == bindparam("of_name"),
    )
    .values(name="", positions="{}", body=b"[]")
)
"""Forgets an outcome, in the transaction that settles it."""


def encoded(settlements: Sequence[Settlement]) -> bytes:
    """Return settlements as JSON, bytes in base64: read again by later versions of the records."""
    return orjson.dumps([_plain(asdict(each)) for each in settlements])


def _plain(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case bytes():
            return base64.urlsafe_b64encode(value).decode()
        case dict():
            return {storable(name): _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _save(upsert: Any) -> Any:
    new = upsert(prepared)
    names = ("source", "layout", "name", "positions", "body")
    return new.on_conflict_do_update(
        index_elements=["flow", "shard"], set_={name: new.excluded[name] for name in names}
    )
