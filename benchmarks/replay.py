"""How fast dead letters are replayed while live events flow (`python -m benchmarks.replay --rounds 2`).

5,000 dead letters of 200 keys, all of them replayed at once, through an `http_call` (and without) and a
file; beside them 200 live events of the same keys come each second. History is full.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Producer

from tests.flows.runtime.running import (
    FlowFolder,
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
)
from tests.flows.state.samples import commit, letter, settlement
from tests.services.kafka import KafkaBroker

LETTERS, KEYS, LIVE = 5000, 200, 200


class Round(NamedTuple):
    """What one replay took."""

    entries: int
    """Dead letters that were left when the command had returned."""
    seconds: float
    """Until the last of them was done."""
    cpu: float
    """Of the worker, in seconds, meanwhile."""
    live: int
    """Events that came beside it."""


@contextmanager
def answering() -> Iterator[int]:
    """Give the port of a server that answers at once."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.answering"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.stdin.close()
        server.wait(10)


@contextmanager
def live_events(broker: KafkaBroker, topic: str) -> Iterator[list[int]]:
    """Write LIVE events a second meanwhile; the list has one entry, how many by now."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    over = threading.Event()
    written = [0]

    def write() -> None:
        while not over.wait(0.05):
            for _ in range(LIVE // 20):
                number = LETTERS + written[0]
                data = {"n": number, "key": f"k{number % KEYS}"}
                producer.produce(topic, json.dumps(data).encode())
                written[0] += 1
            producer.poll(0)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        over.set()
        thread.join()
        producer.flush()


def fill(flow: FlowFolder, topic: str) -> None:
    """Store the dead letters."""
    letters = []
    for number in range(LETTERS):
        event = {
            "specversion": "1.0",
            "id": f"{topic}/0/{number}",
            "source": f"/kafka/{topic}",
            "type": "order",
            "time": "2026-01-01T00:00:00Z",
            "data": {"n": number, "key": f"k{number % KEYS}"},
        }
        of: dict[str, Any] = {"flow": "flow", "pipeline": "ship", "source": "orders"}
        text = json.dumps(event)
        letters.append(letter(number, partition=f"{topic}/0", outputs="{}", event=text, **of))
    with flow.store() as store:
        lease = store.acquire_lease("flow", "orders/0", "filler", 60.0)
        commit(store, lease, [settlement(0, letters=letters, pipeline="ship")])
        store.release_lease(lease)


def measure(broker: KafkaBroker, folder: Path, port: int | None, rate: str) -> Round:
    """Replay them all once."""
    topic = broker.create_topic()
    flow = FlowFolder(folder)
    first = step("check", "jq", {"expression": ".data"})
    if port is not None:
        config = {"url": f"http://127.0.0.1:{port}/", "method": "POST", "body_from": "data"}
        first = step("check", "http_call", config)
    flow.write(
        modules=[kafka_source(broker, topic), file_sink(folder)],
        pipelines={
            "ship": pipeline("orders", first, publish("out", data_from="data"), key=".data.key")
        },
    )
    fill(flow, topic)
    run = flow.start()
    try:
        run.wait_until_started()
        (process,) = run.workers()
        worker = psutil.Process(process.pid)
        with live_events(broker, topic) as written:
            command = ("dlq", "replay", "--all", "--rate", rate, "--no-wait", str(flow.path))
            asked = flow.penstock(*command)
            if asked.returncode:
                raise SystemExit(asked.stderr)
            with flow.store() as store:
                left = LETTERS - store.replays.get(1).ended
                began, spent, live = time.monotonic(), _cpu(worker), written[0]
                while not store.replays.get(1).is_over:
                    time.sleep(0.02)
            took = time.monotonic() - began
            found = Round(left, took, _cpu(worker) - spent, written[0] - live)
        if run.stop():
            raise SystemExit(run.text())
        replayed = {line["data"]["n"] for line in flow.lines()} & set(range(LETTERS))
        if len(replayed) != LETTERS:
            raise SystemExit(f"only {len(replayed)} of {LETTERS} came through")
    finally:
        flow.end()
    return found


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate", default="1000/s", help="what the replay is bound to")
    options = parser.parse_args()
    print("| | entries a second | CPU ms per event of the worker | live events beside |")
    print("|---|---|---|---|")
    with ExitStack() as opened:
        name = opened.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-"))
        port = opened.enter_context(answering())
        broker = opened.enter_context(KafkaBroker.start(Path(name) / "kafka"))
        for number in range(options.rounds):
            for what, used in (("jq", None), ("http_call", port)):
                folder = Path(name) / f"{what}-{number}"
                folder.mkdir()
                found = measure(broker, folder, used, options.rate)
                cost = found.cpu / (found.entries + found.live) * 1000
                print(
                    f"| {what}, {options.rate} | {found.entries / found.seconds:,.0f} | {cost:.2f}"
                    f" | {found.live:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
