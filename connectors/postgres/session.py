"""The sink's connection: one that gives up on a server which says nothing."""

from __future__ import annotations

from typing import Any

import psycopg

from connectors.postgres_cdc.connection import Connection, connect

SPARE = 10.0
"""Seconds that an exchange may take beyond `statement_timeout`: the server gives up first, and says so."""


class PatientConnection(psycopg.Connection[Any]):
    """Closes itself when one exchange with the server takes longer than `patience` seconds."""

    patience: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server, and close the connection if it does not answer."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.errors.PipelineAborted:
            raise  # an earlier statement failed, and its error is still to come
        except psycopg.OperationalError as error:
            if error.sqlstate is None and not self.closed:
                self.close()
            raise


def open_session(connection: str, statement_timeout: float) -> Connection:
    """Connect for writing. Raises psycopg.Error."""
    made = connect(connection, "penstock sink", kind=PatientConnection)
    try:
        made.execute(
            "SELECT set_config('statement_timeout', %s, false),"
            " set_config('row_security', 'on', false)",
            [f"{int(statement_timeout * 1000)}ms"],
        )
        # A row that was confirmed is on the disk, whatever the server's default.
        made.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
    except BaseException:
        made.close()
        raise
    assert isinstance(made, PatientConnection)  # noqa: S101 - `kind` says so
    made.patience = statement_timeout + SPARE
    return made
