"""What goes wrong with a state store, and what its operator is told: no traceback, no loss."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect

from connectors.errors import FatalError, FlowFileError, RetryableError
from flows.state import database as database_module
from flows.state import migrations
from flows.state.store import open_store, reopen_store
from tests.flows.state.samples import chunk, chunks, commit, letter, settlement
from tests.services.fixtures import open_folder

ROOT = Path(__file__).parents[3]


def _refused(url, error=FatalError, **options):
    with pytest.raises(error) as caught:
        open_store(url, **options)
    assert caught.value.hint
    return caught.value


def _child(code, *arguments, **options):
    """Run Python code in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- opening ----------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    error = _refused(f"sqlite:///{tmp_path}/no/such/state.db")
    assert error.code == "state_no_folder"
    assert f"{tmp_path}/no/such" in error.message


def test_a_folder_is_no_state(tmp_path):
    assert _refused(f"sqlite:///{tmp_path}").code == "state_cannot_open"


def test_a_file_that_is_not_a_database_is_left_as_it_is(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("remember the milk\n" * 1000)
    assert _refused(f"sqlite:///{file}").code == "state_not_a_database"
    assert file.read_text() == "remember the milk\n" * 1000


def test_a_relative_url_is_a_file_of_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///the%20state%3F.db").close()
    assert [file.name for file in tmp_path.glob("*.db")] == ["the state?.db"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///state.db?mode=memory",
        "mysql://u:secret@h/db",
        "postgresql+asyncpg://u:secret@h/db",
        "state.db secret",
        "",
    ],
)
def test_a_url_of_something_else_is_refused_with_those_that_work(url):
    error = _refused(url, FlowFileError)
    assert error.code == "state_url"
    assert "sqlite:///relative.db" in error.hint
    assert "secret" not in str(error)


def test_a_file_that_may_not_be_written_is_refused():
    # Root may write anything: the child takes an account that may not.
    code = """
import os, sys
from connectors.errors import FatalError
from flows.state.store import open_store
open_store("sqlite:///" + sys.argv[1] + "/other.db").close()  # all modules are loaded
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    open_store("sqlite:///" + sys.argv[1] + "/state.db")
except FatalError as error:
    print(error.code)
"""
    with open_folder() as folder:
        open_store(f"sqlite:///{folder}/state.db").close()
        (folder / "other").mkdir()
        if os.getuid() != 0:
            (folder / "state.db").chmod(0o444)
        assert _child(code, str(folder)) in {"state_read_only\n", "state_cannot_open\n"}


@pytest.mark.postgres
def test_a_server_that_is_away_is_unreachable_and_its_password_untold(database):
    error = _refused("postgresql://penstock:hunter2@127.0.0.1:1/state?application_name=x")
    assert error.code == "state_unreachable"
    assert error.unreachable
    assert "127.0.0.1:1/state" in error.message
    assert "hunter2" not in str(error) + str(error.context)


def test_a_server_that_is_away_is_waited_for_by_who_had_it_open_before():
    with pytest.raises(RetryableError) as caught:
        reopen_store("postgresql://penstock@127.0.0.1:1/state").totals("flow")
    assert caught.value.code == "state_unavailable"


@pytest.mark.postgres
def test_an_unknown_role_and_a_missing_database_are_told_apart(database):
    assert _refused(database.replace("postgres@", "nobody_known@")).code == "state_login_refused"
    assert _refused(database + "_gone").code == "state_no_database"


@pytest.mark.postgres
def test_a_role_without_rights_is_told_which_it_needs(database):
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS penstock_reader")
        admin.execute("CREATE ROLE penstock_reader LOGIN")
    error = _refused(database.replace("postgres@", "penstock_reader@"))
    assert error.code == "state_denied"
    assert "CREATE" in error.hint


@pytest.mark.postgres
def test_a_server_that_takes_no_writes_is_refused(database):
    with psycopg.connect(database, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert _refused(database).code == "state_read_only"


# --- versions ---------------------------------------------------------------------------------


def test_the_state_of_a_newer_program_is_refused_naming_both_versions(url, opening):
    version = migrations.current_version() + 1
    opening()._database.run(
        lambda connection: connection.exec_driver_sql(
            f"UPDATE penstock_schema SET version = {version}"
        )
    )
    error = _refused(url)
    assert error.code == "state_newer"
    assert f"version {version}" in error.message
    assert f"knows {migrations.current_version()}" in error.message


def test_the_state_of_an_older_program_is_brought_up_to_date_and_keeps_what_it_has(
    url, opening, monkeypatch
):
    store = opening()
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    commit(store, lease, [settlement(3)])

    def add_note(connection):
        connection.exec_driver_sql("ALTER TABLE penstock_leases ADD COLUMN note text")

    steps = migrations.STEPS
    monkeypatch.setattr(migrations, "STEPS", (*steps, add_note))
    error = _refused(url, create=False)
    assert error.code == "state_older"
    newer = opening()
    assert newer.totals("shop")[0].done == 3
    newer._database.run(lambda c: c.exec_driver_sql("SELECT note FROM penstock_leases").all())
    assert newer._database.run(migrations.version_of) == len(steps) + 2
    opening()  # nothing is done twice


def test_a_migration_that_fails_changes_nothing(url, opening, monkeypatch):
    opening()

    def half(connection):
        connection.exec_driver_sql("ALTER TABLE penstock_leases ADD COLUMN note text")
        connection.exec_driver_sql("SELECT * FROM no_such_table")

    steps = migrations.STEPS
    monkeypatch.setattr(migrations, "STEPS", (*steps, half))
    assert _refused(url).code == "state_failed"
    monkeypatch.setattr(migrations, "STEPS", steps)
    with pytest.raises(FatalError):
        opening()._database.run(
            lambda c: c.exec_driver_sql("SELECT note FROM penstock_leases").all()
        )


# --- while it works: SQLite -------------------------------------------------------------------


def test_a_file_that_another_process_locks_is_waited_for(sqlite_url, opening, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.05)
    store = opening(sqlite_url)
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    settled = [settlement(1, history=chunk())]
    with pytest.raises(RetryableError, match="another process holds its lock") as caught:
        commit(store, lease, settled, {"orders/0": "001"})
    assert caught.value.code == "state_unavailable"
    other.execute("COMMIT")
    other.close()
    commit(store, lease, settled, {"orders/0": "001"})
    assert store.totals("shop")[0].done == 1
    assert len(chunks(store)) == 1


def test_a_full_disk_stops_nothing_for_good_and_counts_nothing_twice(sqlite_url, opening):
    store = opening(sqlite_url)
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    connection = store._database._connected()
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    settled = [settlement(1, letters=[letter(1)], history=chunk(b"x" * 100_000))]
    with pytest.raises(RetryableError, match="the disk is full") as caught:
        commit(store, lease, settled, {"orders/0": "001"})
    assert caught.value.code == "state_unavailable"
    assert "goes on by itself" in caught.value.hint
    other = opening(sqlite_url)
    assert other.checkpoints("shop", "orders") == {}
    assert other.totals("shop") == []
    commit(store, lease, settled, {"orders/0": "001"})
    assert (store.totals("shop")[0].done, len(chunks(store))) == (1, 1)


def test_a_disk_that_takes_no_more_bytes_loses_nothing(tmp_path):
    # A limit on the size of files is what a quota does: the write itself fails.
    code = """
import resource, sys
from connectors.errors import RetryableError
from flows.state.store import open_store
from tests.flows.state.samples import chunk, commit, settlement
store = open_store("sqlite:///" + sys.argv[1])
lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
failed = None
for number in range(1, 101):
    batch = [settlement(1, history=chunk(bytes([number]) * 50_000))]
    position = {"orders/0": f"{number:03}"}
    try:
        commit(store, lease, batch, position)
    except RetryableError as error:
        print(number, error.code, error.message)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        commit(store, lease, batch, position)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000 + 40_000 * number, hard))
"""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY
    told = _child(code, f"{tmp_path}/state.db").splitlines()
    assert told
    assert all("state_unavailable" in line for line in told)
    assert "disk" in told[0]
    store = open_store(f"sqlite:///{tmp_path}/state.db")
    assert store.checkpoints("shop", "orders") == {"orders/0": "100"}
    assert store.totals("shop")[0].done == 100
    assert len(chunks(store)) == 100
    store.close()


# --- while it works: PostgreSQL ---------------------------------------------------------------

BLOCK_COMMIT = """
CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT OR UPDATE ON penstock_pipeline_totals
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
"""
"""A deferred trigger runs inside COMMIT: who holds the lock 42 stops a commit in its middle."""

SETTLED = [settlement(1, letters=[letter(1)], history=chunk())]


class Committing(threading.Thread):
    """A commit on a thread, so that a test can do something to it meanwhile."""

    def __init__(self, store, lease):
        super().__init__(daemon=True)
        self.store, self.lease, self.error = store, lease, None
        self.start()

    def run(self):
        try:
            commit(self.store, self.lease, SETTLED, {"orders/0": "001"})
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def end(self):
        self.join(30)
        assert not self.is_alive()
        return self.error


@pytest.fixture
def admin(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def _wait_for(admin, query, tries=2000):
    """Ask until there is an answer, at most 20 seconds."""
    for _ in range(tries):
        row = admin.execute(query).fetchone()
        if row is not None:
            return row[0]
        admin.execute("SELECT pg_sleep(0.01)")
    raise AssertionError(query)


IN_COMMIT = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND query = 'COMMIT' AND wait_event = 'advisory'"
)
BEHIND_IT = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'transactionid'"
)


def _assert_stored_once(store):
    assert store.checkpoints("shop", "orders") == {"orders/0": "001"}
    assert store.totals("shop")[0].done == 1
    assert [found.attempts for found in store.dead_letter("shop", letter(1).id)] == [1]
    assert len(chunks(store)) == 1


@pytest.mark.postgres
def test_a_connection_lost_between_commits_is_made_anew(database, opening_postgres, admin):
    store, lease = opening_postgres(database)
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    commit(store, lease, SETTLED, {"orders/0": "001"})
    _assert_stored_once(store)


@pytest.mark.postgres
def test_a_connection_ended_inside_commit_is_committed_again_once(
    database, opening_postgres, admin
):
    store, lease = opening_postgres(database)
    admin.execute(BLOCK_COMMIT)
    admin.execute("SELECT pg_advisory_lock(42)")
    committing = Committing(store, lease)
    pid = _wait_for(admin, IN_COMMIT)
    admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    again = _wait_for(admin, f"{IN_COMMIT} AND pid <> {pid}")
    assert again != pid
    admin.execute("SELECT pg_advisory_unlock(42)")
    assert committing.end() is None
    _assert_stored_once(store)


@pytest.mark.postgres
def test_a_commit_whose_answer_is_lost_is_not_added_twice(
    database, opening_postgres, admin, postgres, proxies
):
    proxy = proxies(f"127.0.0.1:{postgres.port}")
    store, lease = opening_postgres(database.replace(f":{postgres.port}/", f":{proxy.port}/"))
    admin.execute(BLOCK_COMMIT)
    admin.execute("SELECT pg_advisory_lock(42)")
    committing = Committing(store, lease)
    _wait_for(admin, IN_COMMIT)
    proxy.cut()
    error = committing.end()
    assert isinstance(error, RetryableError)
    assert error.code == "state_unavailable"
    admin.execute("SELECT pg_advisory_unlock(42)")
    assert _wait_for(admin, "SELECT done FROM penstock_pipeline_totals") == 1
    proxy.restore()
    commit(store, lease, SETTLED, {"orders/0": "001"})
    _assert_stored_once(store)


@pytest.mark.postgres
def test_a_commit_that_is_still_under_way_when_it_is_repeated_is_not_added_twice(
    database, opening_postgres, admin, postgres, proxies
):
    proxy = proxies(f"127.0.0.1:{postgres.port}")
    store, lease = opening_postgres(database.replace(f":{postgres.port}/", f":{proxy.port}/"))
    admin.execute(BLOCK_COMMIT)
    admin.execute("SELECT pg_advisory_lock(42)")
    committing = Committing(store, lease)
    first = _wait_for(admin, IN_COMMIT)
    proxy.cut()
    assert isinstance(committing.end(), RetryableError)
    proxy.restore()
    committing = Committing(store, lease)
    assert _wait_for(admin, BEHIND_IT) != first
    admin.execute("SELECT pg_advisory_unlock(42)")
    assert committing.end() is None
    _assert_stored_once(store)


@pytest.mark.postgres
def test_after_a_lost_answer_other_events_are_not_taken_for_those(
    database, opening_postgres, admin, postgres, proxies
):
    proxy = proxies(f"127.0.0.1:{postgres.port}")
    store, lease = opening_postgres(database.replace(f":{postgres.port}/", f":{proxy.port}/"))
    proxy.cut()
    with pytest.raises(RetryableError):
        commit(store, lease, [settlement(1)], {"orders/0": "001"})
    proxy.restore()
    commit(store, lease, [settlement(5)], {"orders/0": "002"})
    assert store.totals("shop")[0].done == 5


@pytest.mark.postgres
def test_a_server_that_stops_is_waited_for(database, opening_postgres, postgres):
    store, lease = opening_postgres(database)
    postgres.kill()
    with pytest.raises(RetryableError, match="can't be reached") as caught:
        commit(store, lease, SETTLED, {"orders/0": "001"})
    assert caught.value.code == "state_unavailable"
    postgres.start_again()
    commit(store, lease, SETTLED, {"orders/0": "001"})
    _assert_stored_once(store)


@pytest.fixture
def opening_postgres():
    """Open a store at a DSN and take its lease."""
    opened = []

    def open_at(dsn):
        store = open_store(dsn)
        opened.append(store)
        return store, store.acquire_lease("shop", "orders/0", "me", 60.0)

    yield open_at
    for store in opened:
        store.close()


def test_an_older_state_gets_the_index_that_statistics_read(opening):
    table, old, new = "penstock_dead_letters", "penstock_dead_letters_groups", "_kinds"
    before = migrations.STEPS.index(migrations._add_kinds) + migrations.FIRST_VERSION
    store = opening()
    for statement in (
        f"DROP INDEX {table}{new}",
        f"CREATE INDEX {old} ON {table} (flow)",
        f"UPDATE penstock_schema SET version = {before}",
    ):
        store._database.run(lambda c, text=statement: c.exec_driver_sql(text))
    found = opening()._database.run(
        lambda c: {each["name"] for each in inspect(c).get_indexes(table)}
    )
    assert f"{table}{new}" in found
    assert old not in found
