"""PostgreSQL behind TLS, the certificate and its name checked (sslmode=verify-full)."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from connectors.errors import FatalError
from flows.state.store import open_store
from tests.connectors.postgres_cdc.cdc import Flow, execute
from tests.services.postgres_tls import tls_front
from tests.transforms.steps.certificates import Authority

pytestmark = pytest.mark.postgres


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def front(postgres, authority):
    with tls_front(postgres.port, authority.server_context("IP:127.0.0.1")) as front:
        yield front


@pytest.fixture
def secured(database, front, authority):
    """Make the DSN of the test's database by way of TLS."""

    def dsn(host="127.0.0.1", ca=authority.ca):
        name = conninfo_to_dict(database)["dbname"]
        return (
            f"postgresql://postgres@{host}:{front.port}/{name}?sslmode=verify-full&sslrootcert={ca}"
        )

    return dsn


def test_rows_and_changes_come_over_tls(database, secured, front):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    flow = Flow(secured(), slot_name=f"tls_{conninfo_to_dict(database)['dbname'][5:]}")
    assert not [check for check in flow.checks() if not check.ok and check.severity == "error"]
    with flow.open() as reading:
        assert reading.batch().column("data") == [{"id": 1}]
        execute(database, "INSERT INTO t VALUES (2)")
        assert reading.batch().column("data") == [{"id": 2}]
    assert front.served >= 2


def test_the_state_is_kept_over_tls(secured, front):
    for _ in range(2):
        store = open_store(secured())
        assert store.acquire_lease("shop", "orders/0", "me", 60.0)
        store.close()
    assert front.served >= 2


@pytest.mark.parametrize("wrong", ["authority", "name", "file"])
def test_a_certificate_that_is_not_trusted_is_one_clear_error(
    database, secured, authority, tmp_path, wrong
):
    execute(database, "CREATE TABLE t (id int PRIMARY KEY)")
    dsn = {
        "authority": lambda: secured(ca=Authority(tmp_path, "another").ca),
        "name": lambda: secured(host="localhost"),
        "file": lambda: secured(ca=tmp_path / "nowhere.pem"),
    }[wrong]()
    with pytest.raises(FatalError) as source, Flow(dsn, slot_name="never").open():
        pass
    with pytest.raises(FatalError) as state:
        open_store(dsn)
    for error in (source.value, state.value):
        assert "certificate" in error.message
        assert "sslrootcert" in error.hint
