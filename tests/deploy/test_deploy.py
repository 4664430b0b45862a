"""deploy/: what can be told of the image and the compose file without an engine, and its flow for real."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from ruamel.yaml import YAML

from flows.plan import load_flow, not_built
from tests.flows.runtime.running import SECONDS, wait_for
from tests.penstock.api.served import serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # Python 3.10 reads no TOML


def test_the_dockerfile_passes_its_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", DEPLOY / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_every_package_and_extras_that_exist():
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    (wheel,) = re.findall(r"targets\.wheel\].*?\npackages = \[(.*?)\]", PROJECT, re.DOTALL)
    assert copied == set(re.findall(r'"(\w+)"', wheel))
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)
    (optional,) = re.findall(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[", PROJECT, re.MULTILINE | re.DOTALL
    )
    assert set(extras.split(",")) <= set(re.findall(r"^(\w+) = \[", optional, re.MULTILINE))


def test_the_image_takes_every_version_from_the_lock():
    (command,) = re.findall(r"&& (sed .*?) requirements\.lock > ", DOCKERFILE)
    done = subprocess.run(
        [*shlex.split(command), ROOT / "requirements.lock"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert done.stdout.splitlines() == [
        line.removesuffix("\\").strip()
        for line in lock.splitlines()
        if re.match(r"[\w.-]+==", line)
    ]


def test_the_image_runs_without_root_and_writes_to_its_volume_only():
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert f"WORKDIR {volume}\n" in DOCKERFILE
    penstock = SERVICES["penstock"]
    assert penstock["read_only"] is True
    assert penstock["cap_drop"] == ["ALL"]
    assert any(mount.split(":")[1] == volume for mount in penstock["volumes"])


def health_check(port):
    (command,) = re.findall(r"^HEALTHCHECK .*?\\\n\s+CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    program, *arguments = json.loads(command)
    assert program == "python"
    arguments = [argument.replace("8080", str(port)) for argument in arguments]
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, timeout=60, check=False
    ).returncode


def test_the_health_check_passes_while_the_api_answers_and_fails_when_it_does_not(tmp_path):
    with serving(tmp_path, f"sqlite:///{tmp_path}/state.db") as served:
        port = served.api.url.rpartition(":")[2]
        assert health_check(port) == 0
    assert health_check(port) != 0


def test_what_a_service_waits_for_can_be_waited_for():
    for name, service in SERVICES.items():
        for other, on in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} depends on {other}"
            if on["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{other} never becomes healthy"


def test_every_image_has_a_version_and_every_volume_and_file_is_there():
    for name, service in SERVICES.items():
        if "build" not in service:
            assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", service["image"]), name
        for mount in service.get("volumes", []):
            origin = mount.split(":")[0]
            if origin.startswith("."):
                assert (DEPLOY / origin).is_file(), origin
            else:
                assert origin in COMPOSE["volumes"], origin
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is reachable by others: {port}"


def test_what_the_compose_file_asks_for_is_in_the_example_of_its_environment():
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    example = (DEPLOY / ".env.example").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))


def test_the_flow_loads_with_what_the_compose_file_gives_it():
    secrets = {"POSTGRES_PASSWORD": "secret", "PENSTOCK_TOKENS": "ops:0123456789abcdef:write"}
    given = {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: secrets[found[1]], value)
        for name, value in SERVICES["penstock"]["environment"].items()
    }
    plan = load_flow([DEPLOY / "flow.yaml"], given)
    assert not_built(plan) == []
    (queue,) = [sink.settings.queue_url for sink in plan.sinks if sink.name == "invoices"]
    name = queue.rpartition("/")[2]
    assert f"{name} {{" in (DEPLOY / "elasticmq.conf").read_text(encoding="utf-8")
    topic = plan.source("orders").settings.topics[0]
    assert f"--topic={topic}" in SERVICES["topics"]["command"]


@pytest.fixture
def environ(tmp_path, database, kafka, redis_url, elasticmq):
    """What the compose file gives the flow, of servers that run here."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((DEPLOY / "shop.sql").read_text(encoding="utf-8"))
    elasticmq.call("CreateQueue", QueueName="invoices")
    return {
        "PENSTOCK_STATE_URL": f"sqlite:///{tmp_path}/shop.db",
        "API_ADDRESS": "127.0.0.1:0",
        "PENSTOCK_TOKENS": "ops:0123456789abcdef:write",
        "DATABASE_URL": database,
        "KAFKA_BROKERS": kafka.bootstrap,
        "ORDERS_TOPIC": kafka.create_topic(4),
        "REDIS_SERVER": redis_url,
        "SQS_ENDPOINT": elasticmq.endpoint,
    }


@pytest.mark.postgres
@pytest.mark.kafka
def test_the_flow_runs_on_such_servers(tmp_path, environ, valkey, elasticmq):
    queue = f"{elasticmq.endpoint}/000000000000/invoices"
    command = [sys.executable, "-m", "penstock", "run", str(DEPLOY / "flow.yaml")]
    log = tmp_path / "run.log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            command, cwd=ROOT, env={**_environment(), **environ}, stdout=output, stderr=output
        )
    try:
        with valkey.client() as client:
            wait_for(
                lambda: run.poll() is not None or client.xlen("recent-orders") == 3,
                "three orders in the stream",
                2 * SECONDS,
            )
            assert client.xlen("recent-orders") == 3, log.read_text()
        wait_for(lambda: elasticmq.counts(queue) == (1, 0), "one invoice in the queue")
        run.terminate()
        assert run.wait(60) == 0, log.read_text()
    finally:
        run.kill()
        run.wait(10)


def _environment():
    """Return what a process needs to find its libraries."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
