"""Redis stream → Redis stream, SQS queue → SQS queue and Pub/Sub → Pub/Sub, beside the same as a bare loop."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4
from zlib import crc32

from benchmarks.harness import Figure, measure
from benchmarks.orders import order
from benchmarks.pubsub_server import PubsubServer
from benchmarks.runs import count_line, received, worker_command
from tests.services.elasticmq import ElasticMqServer
from tests.services.pubsub import PROJECT, PubsubFake
from tests.services.valkey import ValkeyServer

REDIS_FLOW = """
name: {name}
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: {record} }}
modules:
  - {{ name: in, type: source.redis_stream, config: {{ url: "{url}", streams: ["{source}"], group: "{name}", format: json }} }}
  - {{ name: out, type: sink.redis_stream, config: {{ url: "{url}", stream: "{target}", format: json }} }}
pipelines:
  bench: {{ trigger: {{ type: event, source: in }}, steps: [{{ name: out, type: step.publish, config: {{ sink: out }} }}] }}
"""

SQS_FLOW = """
name: {name}
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: {record} }}
modules:
  - {{ name: in, type: source.aws_sqs, config: {{ queue_url: "{source}", {login}, format: json }} }}
  - {{ name: out, type: sink.aws_sqs, config: {{ queue_url: "{target}", {login}, format: json }} }}
pipelines:
  bench: {{ trigger: {{ type: event, source: in }}, steps: [{{ name: out, type: step.publish, config: {{ sink: out }} }}] }}
"""

PUBSUB_FLOW = """
name: bench
state: {{ url: "sqlite:///{folder}/state.db" }}
history: {{ record: {record} }}
modules:
  - {{ name: in, type: source.gcp_pubsub, config: {{ project: {project}, subscription: {source}, endpoint: "{address}", format: json }} }}
  - {{ name: out, type: sink.gcp_pubsub, config: {{ project: {project}, topic: {target}, endpoint: "{address}", format: json }} }}
pipelines:
  bench: {{ trigger: {{ type: event, source: in }}, steps: [{{ name: out, type: step.publish, config: {{ sink: out }} }}] }}
"""

LOGIN = "region: eu-west-1, access_key_id: x, secret_access_key: y"


def orders(count: int) -> list[bytes]:
    rng = random.Random(1)
    return [order(number, rng) for number in range(min(count, 20_000))]


def redis(server: ValkeyServer, count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs, which alternate."""
    source = f"source-{uuid4().hex[:8]}"
    values = orders(count)
    with server.client() as client:
        for first in range(0, count, 1000):
            pipe = client.pipeline(transaction=False)
            for number in range(first, first + 1000):
                pipe.xadd(source, {"data": values[number % len(values)]})
            pipe.execute()

    def bare() -> Figure:
        target = f"target-{uuid4().hex[:8]}"
        command = [sys.executable, "-m", "benchmarks.bare.redis_loop", server.url, source, target]
        figure = measure(command, count, count_line)
        _verify_streams(server, source, target, count)
        return figure

    def penstock(record: str) -> Figure:
        target = f"target-{uuid4().hex[:8]}"
        figure = _measure_flow(
            REDIS_FLOW,
            count,
            name=target,
            record=record,
            url=server.url,
            source=source,
            target=target,
        )
        _verify_streams(server, source, target, count)
        return figure

    yield from _alternate("Redis Streams", bare, penstock, rounds)


def sqs(server: ElasticMqServer, count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs, which alternate."""
    values = [value.decode() for value in orders(count)]

    def filled() -> tuple[str, str]:
        source, target = server.create_queue(), server.create_queue()
        server.send(source, [values[number % len(values)] for number in range(count)])
        return source, target

    def bare() -> Figure:
        source, target = filled()
        module = "benchmarks.bare.sqs_loop"
        command = [sys.executable, "-m", module, server.endpoint, source, target]
        figure = measure(command, count, count_line)
        _verify_queue(server, target, count, values)
        return figure

    def penstock(record: str) -> Figure:
        source, target = filled()
        figure = _measure_flow(
            SQS_FLOW,
            count,
            name=target.rpartition("/")[2],
            record=record,
            login=LOGIN,
            source=source,
            target=target,
        )
        _verify_queue(server, target, count, values)
        return figure

    yield from _alternate("SQS", bare, penstock, rounds)


Filled = AbstractContextManager[tuple[str, str, str, Callable[[], list[bytes]]]]
"""A server's address, the subscription and the topic there, and what was published to it."""


def pubsub(count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each figure's name and its runs, which alternate; each has a server of its own."""

    @contextmanager
    def fake(values: list[bytes]) -> Iterator[tuple[str, str, str, Callable[[], list[bytes]]]]:
        with PubsubFake.start() as server:
            topic, target = server.topic(), server.topic()
            source = server.subscription(topic)
            for first in range(0, count, 100):
                server.publish(topic, [{"data": each} for each in values[first : first + 100]])
            yield (
                server.address,
                source,
                target,
                lambda: [message["Data"] for message in server.messages(target)],
            )

    yield from _pubsub("Pub/Sub, Google's fake", fake, count, rounds)


def pubsub_quick(count: int, rounds: int) -> Iterator[tuple[str, list[Figure]]]:
    """Yield the same on a server that does not hold it up."""

    @contextmanager
    def quick(values: list[bytes]) -> Iterator[tuple[str, str, str, Callable[[], list[bytes]]]]:
        with PubsubServer.running(values) as server:
            yield server.address, "source", "target", lambda: server.published

    yield from _pubsub("Pub/Sub", quick, count, rounds)


def _pubsub(
    name: str, serve: Callable[[list[bytes]], Filled], count: int, rounds: int
) -> Iterator[tuple[str, list[Figure]]]:
    some = orders(count)
    values = [some[number % len(some)] for number in range(count)]
    whole = (count, sum(map(crc32, values)))

    def verify(published: list[bytes]) -> None:
        found = (len(published), sum(map(crc32, published)))
        if found != whole:
            raise SystemExit(f"{found[0]} messages of {count} were published, or others")

    def bare() -> Figure:
        with serve(values) as (address, source, target, published):
            paths = [
                f"projects/{PROJECT}/subscriptions/{source}",
                f"projects/{PROJECT}/topics/{target}",
            ]
            command = [sys.executable, "-m", "benchmarks.bare.pubsub_loop", address, *paths]
            figure = measure(command, count, count_line)
            verify(published())
            return figure

    def penstock(record: str) -> Figure:
        with serve(values) as (address, source, target, published):
            figure = _measure_flow(
                PUBSUB_FLOW,
                count,
                record=record,
                project=PROJECT,
                address=address,
                source=source,
                target=target,
            )
            verify(published())
            return figure

    yield from _alternate(name, bare, penstock, rounds)


def _measure_flow(text: str, count: int, **values: str) -> Figure:
    """Run a worker until it has received `count`; `values` are put into the flow's text."""
    with worker_command() as (folder, command):
        flow = folder / "flow.yaml"
        flow.write_text(text.format(folder=folder, **values))
        return measure(command(flow, "in"), count, received, report_fd=True)


def _alternate(
    name: str, bare: Callable[[], Figure], penstock: Callable[[str], Figure], rounds: int
) -> Iterator[tuple[str, list[Figure]]]:
    contenders: dict[str, Callable[[], Figure]] = {
        f"{name}: bare loop": bare,
        f"{name}: Penstock, history off": lambda: penstock("off"),
        f"{name}: Penstock, history full": lambda: penstock("full"),
    }
    runs: dict[str, list[Figure]] = {each: [] for each in contenders}
    for _ in range(rounds):
        for each, contender in contenders.items():
            runs[each].append(contender())
    yield from runs.items()


def _verify_streams(server: ValkeyServer, source: str, target: str, count: int) -> None:
    """Compare entry by entry in order, and remove the target."""
    sums = [_checksum(server, stream, count) for stream in (source, target)]
    if sums[0] != sums[1]:
        raise SystemExit(f"the checksums of {source} and {target} differ")
    with server.client() as client:
        client.unlink(target)


def _checksum(server: ValkeyServer, stream: str, count: int) -> int:
    total, found, behind = 0, 0, "-"
    with server.client() as client:
        while entries := client.xrange(stream, behind, count=10_000):
            for _, fields in entries:
                total = crc32(fields["data"].encode(), total)
            found += len(entries)
            behind = "(" + entries[-1][0]
    if found != count:
        raise SystemExit(f"{stream} has {found} entries, not {count}")
    return total


def _verify_queue(server: ElasticMqServer, target: str, count: int, values: list[str]) -> None:
    """Compare count and sum of checksums: a standard queue has no order."""
    found = [crc32(message["Body"].encode()) for message in server.receive_all(target)]
    wanted = sum(crc32(values[number % len(values)].encode()) for number in range(count))
    if (len(found), sum(found)) != (count, wanted):
        raise SystemExit(f"{target} has {len(found)} messages of {count}, or others")
