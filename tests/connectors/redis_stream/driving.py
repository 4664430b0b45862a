"""What the tests of the Redis connector share: a source, its server's facts, reading by hand."""

from __future__ import annotations

import json
import time
from uuid import uuid4

from connectors.contracts import Opening, Shard
from connectors.redis_stream import SINK_REDIS_STREAM, SOURCE_REDIS_STREAM


def source(url, stream, **config):
    given = {"streams": [stream], "group": "shop", "key_field": "k", **config}
    return SOURCE_REDIS_STREAM.source(
        "in", SOURCE_REDIS_STREAM.settings.model_validate({"url": url, **given})
    )


def sink(url, **config):
    return SINK_REDIS_STREAM.sink(
        "out", SINK_REDIS_STREAM.settings.model_validate({"url": url, **config})
    )


def opened(made, positions=None, *, index=0, of=1, until_caught_up=False):
    opening = Opening(Shard(index, of), dict(positions or {}), until_caught_up=until_caught_up)
    return made.open(opening)


def fresh():
    return f"stream-{uuid4().hex[:12]}"


def add(client, stream, numbers):
    pipe = client.pipeline(transaction=True)
    for n in numbers:
        pipe.xadd(stream, {"data": json.dumps({"n": n}), "k": f"k{n % 3}"})
    return pipe.execute()


def taken(reader, count, seconds=30):
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


def pending(client, stream, group="shop"):
    return client.xpending(stream, group)["pending"]
