"""A real Apache Kafka: one node in KRaft mode, on 127.0.0.1, with its log in a folder of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import final
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import AdminClient, NewTopic

from penstock.embedded.processes import GuardedProcess, free_port, last_lines
from tests.services.installed import service_folder

_START_SECONDS = 90
_JAVA = ["java", "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
# Clients stay quiet: a broker that is away is what many tests are about.
_QUIET = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}


@final
class KafkaBroker:
    """One broker with two listeners; made by `start`, usable as a context manager.

    `bootstrap` is the plain one. `proxied_bootstrap` is the address that the second listener
    tells its clients to use: put a proxy there whose upstream is `proxied_upstream`, and every
    connection of such a client goes through it (fixture `kafka_proxy`).
    """

    def __init__(
        self, folder: Path, jars: Path, listeners: Mapping[str, str], settings: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self._listeners = dict(listeners)
        self._settings = dict(settings)
        self._jars = jars
        self._cluster_id = ""
        self._ports: list[int] = []
        self._process: GuardedProcess | None = None

    @classmethod
    def start(
        cls,
        folder: Path,
        listeners: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> KafkaBroker:
        """Start a broker with its data in `folder` and return once topics can be made (3 s).

        `listeners` are further ones, name → security protocol, found by `address`; `settings`
        their properties.
        """
        folder.mkdir(parents=True, exist_ok=True)
        broker = cls(folder, service_folder("kafka-4.3.1"), listeners or {}, settings or {})
        for _ in range(5):
            broker._ports = [free_port() for _ in range(4 + len(broker._listeners))]
            broker._format()
            if broker._launch():
                return broker
        raise RuntimeError(f"Kafka found no free ports:\n{last_lines(broker.log)}")

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def proxied_upstream(self) -> str:
        return f"127.0.0.1:{self._ports[1]}"

    @property
    def proxied_bootstrap(self) -> str:
        return f"127.0.0.1:{self._ports[2]}"

    def address(self, listener: str) -> str:
        """Return the address of a listener that `start` was given."""
        return f"127.0.0.1:{self._ports[4 + list(self._listeners).index(listener)]}"

    @property
    def log(self) -> Path:
        return self.folder / "kafka.log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Kafka is stopped"
        return self._process.pid

    def stop(self) -> None:
        """Shut it down and wait."""
        if self._process is not None:
            self._process.end(signal.SIGTERM, grace=20)
            self._process = None

    def kill(self) -> None:
        """Kill it as a crash would and wait for its end."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None

    def start_again(self) -> None:
        """Start it again after `stop` or `kill`: same data, same addresses (3 to 6 s)."""
        if self._process is None and not self._launch():
            raise RuntimeError(f"Kafka's ports were taken meanwhile:\n{last_lines(self.log)}")

    def __enter__(self) -> KafkaBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def create_topic(self, partitions: int = 1, *, name: str | None = None, **config: str) -> str:
        """Create a topic and return its name, a fresh one unless given.

        `config` are topic settings with `_` for `.`: `cleanup_policy="compact"`.
        """
        name = name or f"topic-{uuid4().hex[:12]}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin = self._admin()
        topic = NewTopic(name, partitions, replication_factor=1, config=settings)
        admin.create_topics([topic], operation_timeout=20)[name].result(30)
        self._wait_for_leaders(admin, name, partitions)
        return name

    def add_partitions(self, topic: str, total: int) -> None:
        """Grow a topic to `total` partitions."""
        from confluent_kafka.admin import NewPartitions  # noqa: PLC0415 - one test wants it

        admin = self._admin()
        admin.create_partitions([NewPartitions(topic, total)])[topic].result(30)
        self._wait_for_leaders(admin, topic, total)

    def read_all(
        self, topic: str, count: int, timeout: float = 30, *, isolation: str = "read_committed"
    ) -> list[Message]:
        """Return all messages of `topic` once it has `count` or more, in order per partition.

        Reads to the end of every partition, so that a message too many shows. Raises
        AssertionError when fewer have come after `timeout` seconds.
        """
        consumer = Consumer(
            {
                **_QUIET,
                "bootstrap.servers": self.bootstrap,
                "group.id": f"read-all-{uuid4().hex}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "fetch.wait.max.ms": 50,
            }
        )
        found: list[Message] = []
        at_end: set[int] = set()
        deadline = time.monotonic() + timeout
        try:
            listed = consumer.list_topics(topic, timeout=timeout).topics[topic]
            if listed.error is not None:
                raise KafkaException(listed.error)
            consumer.assign([Partition(topic, p, OFFSET_BEGINNING) for p in listed.partitions])
            while len(found) < count or len(at_end) < len(listed.partitions):
                left = deadline - time.monotonic()
                assert left > 0, f"{topic} has {len(found)} messages after {timeout} s, not {count}"
                for message in consumer.consume(1000, min(left, 0.2)):
                    error = message.error()
                    if error is None:
                        found.append(message)
                        at_end.discard(message.partition())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        at_end.add(message.partition())
                    elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                        raise KafkaException(error)
        finally:
            consumer.close()
        return found

    def _admin(self) -> AdminClient:
        return AdminClient({**_QUIET, "bootstrap.servers": self.bootstrap})

    def _wait_for_leaders(self, admin: AdminClient, topic: str, partitions: int) -> None:
        deadline = time.monotonic() + 20
        while True:
            listed = admin.list_topics(topic, timeout=20).topics[topic].partitions.values()
            if len(listed) == partitions and all(p.leader >= 0 for p in listed):
                return
            assert time.monotonic() < deadline, f"{topic} has no leaders after 20 s"
            time.sleep(0.02)

    def _format(self) -> None:
        """Write the configuration and an empty log folder with a new cluster id."""
        plain, proxied, advertised, controller = self._ports[:4]
        more = "".join(f",{name}://{self.address(name)}" for name in self._listeners)
        protocols = "".join(f",{name}:{kind}" for name, kind in self._listeners.items())
        logs = self.folder / f"log-{plain}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAIN://127.0.0.1:{plain},PROXIED://127.0.0.1:{proxied},"
            f"CONTROLLER://127.0.0.1:{controller}{more}",
            "advertised.listeners": f"PLAIN://127.0.0.1:{plain},"
            f"PROXIED://127.0.0.1:{advertised}{more}",
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,"
            f"CONTROLLER:PLAINTEXT{protocols}",
            "inter.broker.listener.name": "PLAIN",
            "log.dirs": logs,
            "auto.create.topics.enable": "false",
            # A restart after a kill waits for the session of the broker that died.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 600,
            "group.initial.rebalance.delay.ms": 0,
            # Tests write events of any age, and want them kept.
            "log.retention.ms": -1,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            **self._settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / "server.properties").write_text(text)
        tool = self._java("kafka.tools.StorageTool")
        # What `random-uuid` of the tool makes, without waiting for a Java to start.
        self._cluster_id = urlsafe_b64encode(b"p" + uuid4().bytes[1:]).decode().rstrip("=")
        formatted = subprocess.run(
            [*tool, "format", "-t", self._cluster_id, "-c", self.folder / "server.properties"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if formatted.returncode != 0:
            raise RuntimeError(f"Kafka's folder can't be formatted: {formatted.stderr}")

    def _launch(self) -> bool:
        """Start it and wait until it answers; False if a port was taken in between."""
        self.log.write_bytes(b"")
        process = GuardedProcess(
            [*self._java("kafka.Kafka"), str(self.folder / "server.properties")],
            log=self.log,
            cwd=self.folder,
            environment={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )
        try:
            self._wait_until_it_answers(process)
        except BaseException:
            taken = not process.running() and "Address already in use" in self.log.read_text()
            process.end(signal.SIGKILL)
            if taken:
                return False
            raise
        self._process = process
        return True

    def _wait_until_it_answers(self, process: GuardedProcess) -> None:
        admin = self._admin()
        deadline = time.monotonic() + _START_SECONDS
        while process.running() and time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                listed = admin.list_topics(timeout=1)
                # Another broker may have been quicker to take the port.
                if listed.cluster_id == self._cluster_id and listed.brokers:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"Kafka does not answer; its log ends:\n{last_lines(self.log, 40)}")

    def _java(self, main: str) -> list[str]:
        level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [*_JAVA, level, "-cp", f"{self._jars}/*", main]
