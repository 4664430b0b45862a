"""sink.file under kill -9: a writer killed at random moments leaves every line once, in order."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = min(60, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "8")))
ROOT = Path(__file__).parents[3]

WRITER = """
import json, os, random, sys
from pathlib import Path
from connectors.contracts import Outgoing, SinkOpening
from connectors.file import FileSink
from connectors.file.settings import FileSinkSettings
from tests.connectors.templates import compile_template

store, config, end = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
kept = json.loads(store.read_text()) if store.exists() else {"position": 0, "sink": {}}
print("started", flush=True)
sink = FileSink("out", FileSinkSettings.model_validate(config))
sink.open(SinkOpening(kept["sink"], compile_template=compile_template))
print("open", flush=True)
position = kept["position"]
while position < end:
    numbers = range(position, min(end, position + random.randint(1, 20)))
    shared = {"id": list(map(str, numbers)), "source": "/s", "type": [f"k{n % 5}" for n in numbers]}
    values = [json.dumps({"n": n, "kind": n % 5}).encode() for n in numbers]
    failures = sink.deliver(Outgoing(values, [None] * len(values), lambda: shared))
    if failures:
        raise next(iter(failures.values()))
    position = numbers.stop
    # The settle transaction: position and sink state, durable together or not at all.
    kept = {"position": position, "sink": dict(sink.settled_state())}
    with open(str(store) + ".new", "w") as file:
        file.write(json.dumps(kept))
        file.flush()
        os.fsync(file.fileno())
    os.replace(str(store) + ".new", store)
sink.close()
"""


def start(store, config, end):
    arguments = [sys.executable, "-c", WRITER, str(store), json.dumps(config), str(end)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def numbers_of(folder):
    """Return kind → the numbers in its files, the rotated ones first."""
    found = {}
    files = sorted(
        folder.glob("*.jsonl"),
        key=lambda p: int(match[1]) if (match := re.search(r"\.(\d{6,})\.", p.name)) else 10**9,
    )
    for path in files:
        for line in path.read_text().splitlines():
            event = json.loads(line)
            found.setdefault(event["kind"], []).append(event["n"])
    return found


@pytest.mark.chaos
@pytest.mark.parametrize(
    "config",
    [
        {"path": "out.jsonl", "format": "json"},
        {"path": "out.jsonl", "format": "json", "rotate": "600B"},
        {"path": "{{ .type }}.jsonl", "format": "json", "rotate": "300B", "max_open_files": 2},
    ],
    ids=["one file", "rotated", "many files, few open"],
)
def test_a_killed_writer_leaves_every_line_once(tmp_path, config):
    chance = random.Random()
    folder = tmp_path / "out"
    config = config | {"path": f"{folder}/{config['path']}"}
    store = tmp_path / "state.json"
    for _ in range(KILLS):
        writer = start(store, config, 10**9)
        try:
            # Sometimes before it has recovered from the last kill, mostly while it writes.
            awaited = chance.choice(["started\n", "open\n", "open\n", "open\n"])
            while (line := writer.stdout.readline()) != awaited:
                assert line, writer.stderr.read()
            time.sleep(chance.uniform(0, 0.08))
        finally:
            writer.kill()
            _, errors = writer.communicate(timeout=30)
        assert errors == ""
    end = (json.loads(store.read_text())["position"] if store.exists() else 0) + 50
    last = start(store, config, end)
    _, errors = last.communicate(timeout=60)
    assert (last.returncode, errors) == (0, "")
    assert numbers_of(folder) == {kind: list(range(kind, end, 5)) for kind in range(5)}


def test_the_writer_of_this_test_writes_to_the_end(tmp_path):
    config = {"path": str(tmp_path / "out.jsonl"), "format": "json"}
    writer = start(tmp_path / "state.json", config, 100)
    _, errors = writer.communicate(timeout=60)
    assert (writer.returncode, errors) == (0, "")
    assert Path(tmp_path / "out.jsonl").read_text().count("\n") == 100
