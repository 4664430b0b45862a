"""Writing as the holder of a lease, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from connectors.errors import FatalError
from flows.state.database import Database, transaction
from flows.state.queries import Queries
from flows.state.records import Lease


def of_lease(lease: Lease) -> dict[str, Any]:
    """Return the lease as the parameters of the statements that ask whether it is held."""
    return {
        "of_flow": lease.flow,
        "of_shard": lease.shard,
        "of_fence": lease.fence,
        "of_holder": lease.holder,
    }


def lease_lost(lease: Lease) -> FatalError:
    """Return the error of one who was taken over from."""
    return FatalError(
        f"another worker has taken over {lease.shard} of flow {lease.flow}.",
        code="lease_lost",
        hint="This one stops; nothing it did after the take-over was stored.",
        flow=lease.flow,
        shard=lease.shard,
    )


def under(database: Database, lease: Lease, work: Callable[[Connection], None]) -> None:
    """Call `work` in a transaction, as the lease's holder. Raises FatalError `lease_lost`.

    `work` must bear being done twice: a connection that was lost is made anew.
    """

    def execute(connection: Connection) -> bool:
        with transaction(connection):
            held: int = connection.execute(Queries.still_held, of_lease(lease)).rowcount
            if held:
                work(connection)
        return held == 1

    if not database.run(execute):
        raise lease_lost(lease)
