"""Idempotency keys as operators see them: who has which, until when, and freed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, Select, and_, delete, exists, func, or_, select

from flows.state.database import Database, transaction
from flows.state.idempotency import shown_text
from flows.state.tables import idempotency_keys as _keys
from flows.state.tables import parked, server_now

Status = Literal["in_flight", "waiting", "done"]
"""in_flight: an execution that has it runs, or its worker is gone and its lease not over;
waiting: the execution that has it is parked; done: it is remembered."""

AMBIGUOUS = 20
"""Keys looked for at the most where the start of a hash fits several."""


@dataclass(frozen=True, slots=True)
class KeptKey:
    """One key."""

    flow: str
    digest: str
    """32 hexadecimal digits: the hash by which it is known."""
    scope: str
    """The pipeline, or `pipeline/step` of the step that last claimed it."""
    key: str | None
    """Its text; None where the store keeps only the hash."""
    tenant: str | None
    status: Status
    holder: str
    """The id of the execution that has it, or had done it."""
    ends_in: float
    """Seconds until it is free by itself, as of the store's clock."""
    result: str | None
    """What came of it, as JSON."""
    store: str
    """`state`, or the address of a Redis."""


class KeyShelf(Protocol):
    """A store of keys, to look at. Raises RetryableError, FatalError."""

    def page(
        self, *, pipeline: str | None, statuses: Sequence[str], limit: int
    ) -> Sequence[KeptKey]:
        """Return keys, those that are held first, of each those that end first first."""

    def find(self, prefix: str) -> Sequence[KeptKey]:
        """Return the keys whose hash starts so."""

    def find_text(self, key: str, tenant: str | None) -> Sequence[KeptKey]:
        """Return the keys whose text is this; of any tenant, where the store can tell without one."""

    def free(self, key: KeptKey) -> bool:
        """Let anybody have it; False, and nothing is changed, when it is not as it was."""

    def close(self) -> None:
        """Close the connection."""


class StateShelf:
    """The keys in a state store."""

    def __init__(self, database: Database, flow: str | None) -> None:
        """`flow` of None: the keys of all."""
        self._flow = flow
        self._database = database

    def page(
        self, *, pipeline: str | None, statuses: Sequence[str], limit: int
    ) -> Sequence[KeptKey]:
        """Return keys; see KeyShelf."""
        query = self._shown().order_by(_keys.c.done, _keys.c.expires_at, _keys.c.digest)
        if pipeline is not None:
            steps = func.substr(_keys.c.scope, 1, len(pipeline) + 1) == f"{pipeline}/"
            query = query.where(or_(_keys.c.scope == pipeline, steps))
        if statuses:
            query = query.where(or_(*(_STATUSES[status] for status in statuses)))
        return self._all(query.limit(limit))

    def find(self, prefix: str) -> Sequence[KeptKey]:
        """Return the keys whose hash starts so."""
        whole = len(prefix) // 2
        first = bytes.fromhex(prefix[: 2 * whole])
        # Bytes sort as their hexadecimal digits do.
        query = self._shown().where(_keys.c.digest >= first).order_by(_keys.c.digest)
        after = _next(first)
        if after is not None:
            query = query.where(_keys.c.digest < after)
        found = self._all(query.limit(16 * AMBIGUOUS))
        return [key for key in found if key.digest.startswith(prefix)][:AMBIGUOUS]

    def find_text(self, key: str, tenant: str | None) -> Sequence[KeptKey]:
        """Return the keys whose text is this; see KeyShelf."""
        query = self._shown().where(_keys.c.key == shown_text(key)).order_by(_keys.c.digest)
        if tenant is not None:
            query = query.where(_keys.c.tenant == shown_text(tenant))
        return self._all(query.limit(AMBIGUOUS))

    def free(self, key: KeptKey) -> bool:
        """Let anybody have it; see KeyShelf."""
        statement = delete(_keys).where(
            _keys.c.flow == key.flow,
            _keys.c.digest == bytes.fromhex(key.digest),
            _keys.c.holder == key.holder,
            _keys.c.done == int(key.status == "done"),
        )

        def work(connection: Connection) -> bool:
            with transaction(connection):
                freed: int = connection.execute(statement).rowcount
            return freed == 1

        return self._database.run(work)

    def close(self) -> None:
        """Leave the connection to the state store, whose it is."""

    def _shown(self) -> Select[Any]:
        query = select(
            _keys.c.flow,
            _keys.c.digest,
            _keys.c.scope,
            _keys.c.key,
            _keys.c.tenant,
            _keys.c.done,
            _keys.c.holder,
            (_keys.c.expires_at - server_now()).label("ends_in"),
            _keys.c.result,
            _waits.label("waits"),
        ).where(_keys.c.expires_at > server_now(), _keys.c.holder != "")
        return query if self._flow is None else query.where(_keys.c.flow == self._flow)

    def _all(self, query: Select[Any]) -> list[KeptKey]:
        rows = self._database.run(lambda connection: list(connection.execute(query)))
        return [
            KeptKey(
                flow=row.flow,
                digest=bytes(row.digest).hex(),
                scope=row.scope,
                key=row.key,
                tenant=row.tenant,
                status="done" if row.done else "waiting" if row.waits else "in_flight",
                holder=row.holder,
                ends_in=row.ends_in,
                result=row.result,
                store="state",
            )
            for row in rows
        ]


_waits = exists().where(parked.c.flow == _keys.c.flow, parked.c.id == _keys.c.holder)

_STATUSES: dict[str, Any] = {
    "done": _keys.c.done == 1,
    "waiting": and_(_keys.c.done == 0, _waits),
    "in_flight": and_(_keys.c.done == 0, ~_waits),
}


def _next(prefix: bytes) -> bytes | None:
    """Return the first bytes that no longer start so; None where there are none."""
    number = int.from_bytes(prefix, "big") + 1
    return None if number >> (8 * len(prefix)) else number.to_bytes(len(prefix), "big")
