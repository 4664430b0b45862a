"""Publish calls: one per ordering key at a time, many keys at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import grpc

from connectors.errors import PenstockError, PermanentError
from connectors.gcp_pubsub.client import PublishRequest
from connectors.gcp_pubsub.failures import translated

REQUEST_BYTES = 9_000_000
"""What a publish call may hold: 10 MB, less what its encoding adds."""

_AT_ONCE = 100
"""Calls on their way at the same time: HTTP/2 servers take as many streams of one connection."""

Chunk = list[int]
"""Places of the messages of one call."""


@dataclass(slots=True)
class _Lane:
    """The calls of one ordering key, in order. Without keys order means nothing, and nor do lanes."""

    chunks: deque[Chunk]


def publish(
    call: Any,
    topic: str,
    messages: Sequence[Any],
    places: Sequence[int],
    *,
    most: int,
    timeout: float,
    address: str,
) -> dict[int, PenstockError]:
    """Publish the messages at `places` and wait for each; return those that failed.

    What follows a message of the same key that failed for now fails with it, so that a retry keeps
    the order. A call that is refused for what is in it is split until the culprit is alone.
    """
    failures: dict[int, PenstockError] = {}
    waiting = deque(_lanes(messages, places, most))
    answers: SimpleQueue[tuple[_Lane, Chunk, Any]] = SimpleQueue()
    running = 0

    def start(lane: _Lane) -> None:
        chunk = lane.chunks.popleft()
        request = PublishRequest(topic=topic, messages=[messages[k] for k in chunk])
        future = call.future(request, timeout=timeout)
        future.add_done_callback(_telling(answers, lane, chunk))

    while waiting or running:
        while waiting and running < _AT_ONCE:
            start(waiting.popleft())
            running += 1
        lane, chunk, future = answers.get()
        running -= 1
        try:
            future.result()
        except grpc.RpcError as error:
            known = translated(error, address, f"the topic {topic}")
            if isinstance(known, PermanentError) and len(chunk) > 1:
                half = len(chunk) // 2
                lane.chunks.extendleft((chunk[half:], chunk[:half]))
            elif isinstance(known, PermanentError):
                failures[chunk[0]] = known
            else:
                for failed in (chunk, *lane.chunks):
                    failures.update(dict.fromkeys(failed, known))
                lane.chunks.clear()
        if lane.chunks:
            waiting.appendleft(lane)
    return failures


def _telling(
    answers: SimpleQueue[tuple[_Lane, Chunk, Any]], lane: _Lane, chunk: Chunk
) -> Callable[[Any], None]:
    return lambda future: answers.put((lane, chunk, future))


def _lanes(messages: Sequence[Any], places: Sequence[int], most: int) -> list[_Lane]:
    """Group by ordering key, since a call may hold one key only; unkeyed calls go side by side."""
    by_key: dict[str, list[Chunk]] = {}
    weights: dict[str, int] = {}
    for place in places:
        message = messages[place]
        key = message.ordering_key
        weight = message.ByteSize()
        chunks = by_key.setdefault(key, [])
        if not chunks or len(chunks[-1]) >= most or weights[key] + weight > REQUEST_BYTES:
            chunks.append([])
            weights[key] = 0
        chunks[-1].append(place)
        weights[key] += weight
    lanes = [_Lane(deque([chunk])) for chunk in by_key.pop("", [])]
    return lanes + [_Lane(deque(chunks)) for chunks in by_key.values()]
