"""A standby of a PostgreSQL server of ours: pg_basebackup, then streaming replication."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psycopg

from penstock.embedded import postgres as embedded
from penstock.embedded.postgres import PostgresServer
from penstock.embedded.processes import free_port


def start_standby(primary: PostgresServer, folder: Path, name: str = "standby") -> PostgresServer:
    """Start a standby with its data in `folder`; it keeps a slot of that name on the primary."""
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
    account = primary._account
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if account is not None:
        embedded._make_reachable(folder)
        folder.chmod(0o777)
    data = folder / "data"
    embedded._run(
        [
            str(primary._binaries / "pg_basebackup"),
            *("-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-S", name),
            *("-d", f"host=127.0.0.1 port={primary.port} user=postgres dbname=postgres"),
        ],
        account,
    )
    with (data / "postgresql.auto.conf").open("a") as text:
        text.write("hot_standby_feedback = on\nwal_receiver_status_interval = 1s\n")
        text.write("wal_retrieve_retry_interval = 200ms\n")
    standby = PostgresServer(folder, primary._binaries, free_port(), account)
    standby._launch(may_move=True)
    return standby


def replayed(primary: PostgresServer, standby: PostgresServer) -> bool:
    """Whether the standby has all that the primary has written by now."""
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(standby.dsn(), autocommit=True) as connection,
    ):
        found = connection.execute(
            "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [row[0] if row else None]
        ).fetchone()
        return bool(found and found[0])
    return False
