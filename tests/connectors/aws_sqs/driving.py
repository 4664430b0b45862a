"""What the tests of the SQS connector share."""

from __future__ import annotations

import json
import time

from connectors.aws_sqs import SINK_AWS_SQS, SOURCE_AWS_SQS
from connectors.contracts import Opening, Shard

LOGIN = {"access_key_id": "x", "secret_access_key": "y", "region": "eu-west-1"}


def source(url, **config):
    given = {"queue_url": url, "wait_time": 0, **LOGIN, **config}
    return SOURCE_AWS_SQS.source("in", SOURCE_AWS_SQS.settings.model_validate(given))


def sink(url, **config):
    given = {"queue_url": url, **LOGIN, **config}
    return SINK_AWS_SQS.sink("out", SINK_AWS_SQS.settings.model_validate(given))


def opened(made, positions=None, *, index=0, of=1, until_caught_up=False):
    opening = Opening(Shard(index, of), dict(positions or {}), until_caught_up=until_caught_up)
    return made.open(opening)


def add(server, url, numbers, group=lambda n: f"k{n % 3}"):
    chosen = list(numbers)
    groups = [group(n) for n in chosen] if url.endswith(".fifo") else None
    server.send(url, [json.dumps({"n": n}) for n in chosen], groups)


def taken(reader, count, seconds=40):
    """Return (numbers, positions after) once `count` events have come."""
    found, after = [], {}
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, (found, reader.status())
        batch = reader.poll(1000, 0.2)
        if batch is not None:
            found += [None if data is None else data["n"] for data in batch.column("data")]
            after |= batch.after
    return found, after
