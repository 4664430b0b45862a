"""The idempotency keys of one flow in Redis, to look at and to free: a KeyShelf (kept_keys)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from flows.state.idempotency import digest_of
from flows.state.kept_keys import AMBIGUOUS, KeptKey
from flows.state.records import DEFAULT_TENANT
from flows.state.redis_keys import RedisKeys

# ARGV: state and holder of the one that was looked at.
_FREE = """
if redis.call('GETRANGE', KEYS[1], 0, 36) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""

_AT_ONCE = 500
"""Keys that are asked for in one call."""


class RedisShelf:
    """The keys of the pipelines that have theirs in one Redis: it knows hashes, not texts."""

    def __init__(self, url: str, flow: str, pipelines: Sequence[str]) -> None:
        """Connect to nothing yet. `pipelines`: those that have their keys there. Raises FatalError."""
        self._keys = RedisKeys(url, flow)
        self._flow = flow
        self._pipelines = tuple(pipelines)

    def page(
        self, *, pipeline: str | None, statuses: Sequence[str], limit: int
    ) -> Sequence[KeptKey]:
        """Return keys; see KeyShelf. Reads all that there are: Redis has no order of them."""
        if pipeline is not None and pipeline not in self._pipelines:
            return []
        found = [key for key in self._all("*") if not statuses or key.status in statuses]
        found.sort(key=lambda key: (key.status == "done", key.ends_in, key.digest))
        return found[:limit]

    def find(self, prefix: str) -> Sequence[KeptKey]:
        """Return the keys whose hash starts so."""
        return list(self._all(f"{prefix}*"))[:AMBIGUOUS]

    def find_text(self, key: str, tenant: str | None) -> Sequence[KeptKey]:
        """Return the keys whose text is this, of the tenant or else of the default one."""
        owner = DEFAULT_TENANT if tenant is None else tenant
        digests = {name: digest_of("pipeline", name, owner, key) for name in self._pipelines}
        return [
            replace(each, scope=name, key=key, tenant=owner)
            for name, digest in digests.items()
            for each in self._shown([f"{self._keys.prefix}{digest.hex()}".encode()])
        ]

    def free(self, key: KeptKey) -> bool:
        """Let anybody have it; see KeyShelf."""
        state = "d" if key.status == "done" else "h"
        name = self._keys.prefix + key.digest
        return bool(
            self._keys.call(
                lambda: self._keys.client.eval(_FREE, 1, name, f"{state}{key.holder:36.36}")
            )
        )

    def close(self) -> None:
        """Close the connections."""
        self._keys.close()

    def _all(self, pattern: str) -> Iterator[KeptKey]:
        keys = self._keys
        match = re.sub(r"([*?\[\]\\])", r"\\\1", keys.prefix) + pattern
        cursor = 0
        seen: set[bytes] = set()  # SCAN may give one twice
        while True:
            cursor, names = keys.call(partial(keys.client.scan, cursor, match, _AT_ONCE))
            texts = (name.encode() if isinstance(name, str) else name for name in names)
            new = [name for name in dict.fromkeys(texts) if name not in seen]
            seen.update(new)
            yield from self._shown(new)
            if not cursor:
                return

    def _shown(self, names: list[bytes]) -> Iterator[KeptKey]:
        if not names:
            return
        pipe = self._keys.client.pipeline(transaction=False)
        for name in names:
            pipe.get(name)
            pipe.pttl(name)
        answers = self._keys.call(pipe.execute)
        for name, value, left in zip(names, answers[::2], answers[1::2], strict=True):
            if value is None:
                continue  # it has just expired
            held = self._keys.held(value)
            yield KeptKey(
                flow=self._flow,
                digest=name.decode()[len(self._keys.prefix) :],
                scope=" | ".join(self._pipelines),
                key=None,
                tenant=None,
                status="done" if held.done else "in_flight",
                holder=held.holder,
                ends_in=max(0, left) / 1000,
                result=held.result if held.done else None,
                store=self._keys.label,
            )


__all__ = ["RedisShelf"]
