"""The process that is killed: `python -m connectors.testing.doomed`.

It is told what to make, and what is settled, in lines of JSON on its standard input; it writes a line per
batch.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from queue import SimpleQueue
from typing import Any

from connectors.contracts import Opening, Shard
from connectors.testing.killing import Recipe, made


def _main() -> None:
    order = json.loads(sys.stdin.readline())
    reader = made(Recipe(order["kind"], order["config"])).open(Opening(Shard(), order["positions"]))
    orders: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(line)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        if not orders.empty():
            reader.acknowledge(json.loads(orders.get()))
        batch = reader.poll(10, 0.1)
        if batch is None or not batch.size:
            continue
        told: dict[str, Any] = {
            name: list(batch.column(name)) for name in ("key", "partition", "position")
        }
        told["raw"] = [
            None if raw is None else base64.b64encode(raw).decode() for raw in batch.column("raw")
        ]
        sys.stdout.write(json.dumps({**told, "after": dict(batch.after)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
