"""How many webhooks a flow takes in (`python -m benchmarks.http`): each answered after its fsync.

A client in Python shares the machine's cores, so the flow could take more than it says.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from pathlib import Path

from tests.flows.runtime.running import FlowFolder, file_sink, pipeline, publish, wait_for

REQUESTS = 10_000
BODY = json.dumps(
    {"id": 1, "customer": "c-17", "total": 12.5, "items": [{"sku": "a", "n": 2}] * 4}
).encode()
REQUEST = (
    b"POST /hooks/orders HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


async def _send(port: int, count: int, took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        began = time.perf_counter()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), head
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert found is not None
        await reader.readexactly(int(found[1]))
        took.append(time.perf_counter() - began)
    writer.close()


async def _load(port: int, connections: int, count: int) -> tuple[float, list[float]]:
    took: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_send(port, count // connections, took) for _ in range(connections)))
    return time.perf_counter() - began, sorted(took)


def main() -> None:
    """Print a line per number of connections."""
    with tempfile.TemporaryDirectory() as folder:
        flow = FlowFolder(Path(folder))
        hooks = {"name": "hooks", "type": "source.http", "config": {"path": "/hooks/orders"}}
        config = {**hooks["config"], "max_waiting": 1_000_000}
        flow.write(
            modules=[{**hooks, "config": config}, file_sink(flow.folder)],
            pipelines={"keep": pipeline("hooks", publish("out"))},
        )
        try:
            run = flow.start("--address", "127.0.0.1:0")
            run.wait_until_started()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/api", run.text())
            assert found is not None
            asyncio.run(_load(int(found[1]), 1, 10))
            sent = 10
            for connections in (1, 16, 64):
                count = REQUESTS if connections > 1 else 500
                seconds, took = asyncio.run(_load(int(found[1]), connections, count))
                sent += len(took)
                middle, last = took[len(took) // 2], took[int(len(took) * 0.99)]
                print(
                    f"| {connections} | {len(took) / seconds:,.0f} | {middle * 1e3:.1f} ms"
                    f" | {last * 1e3:.1f} ms |"
                )
            wait_for(lambda: len(flow.lines()) == sent, "all of them in the file")
            run.stop()
        finally:
            flow.end()


if __name__ == "__main__":
    main()
