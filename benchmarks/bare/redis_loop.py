"""Redis stream → Redis stream as a plain loop on redis-py: read 1,000 by a group, add them, acknowledge.

python -m benchmarks.bare.redis_loop URL FROM TO
"""

from __future__ import annotations

import sys

import redis


def main(url: str, source: str, target: str) -> None:
    client = redis.Redis.from_url(url)
    group = f"bare-{target}"
    client.xgroup_create(source, group, "0")
    count = 0
    while True:
        found = client.xreadgroup(group, "one", {source: ">"}, count=1000, block=1000)
        # A dict under RESP3, a list under RESP2; of either, the one stream's entries.
        entries = [entry for part in _parts(found) for entry in part]
        if not entries:
            continue
        pipe = client.pipeline(transaction=False)
        for _, fields in entries:
            pipe.xadd(target, {b"data": fields[b"data"]})
        pipe.execute()
        client.xack(source, group, *[entry for entry, _ in entries])
        count += len(entries)
        if count % 10_000 < len(entries):
            print(count, flush=True)


def _parts(found):
    if isinstance(found, dict):
        return [part for parts in found.values() for part in parts]
    return [part for _, part in found or ()]


if __name__ == "__main__":
    main(*sys.argv[1:])
