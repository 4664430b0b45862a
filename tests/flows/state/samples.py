"""Records to store, with everything in them that a test does not care about."""

from __future__ import annotations

import time

from flows.state.history import chunk_pieces, compress
from flows.state.records import (
    Counts,
    DeadLetter,
    HistoryChunk,
    Parked,
    ParkedPlace,
    Settlement,
)


def letter(number=1, **changes):
    values = {
        "id": f"019a0000-0000-7000-8000-{number:012d}",
        "flow": "shop",
        "flow_version": "v1",
        "pipeline": "enrich",
        "step": "charge",
        "source": "orders",
        "partition": "orders/0",
        "position": f"{number:020d}",
        "event_id": f"event-{number}",
        "event_type": "order.created",
        "tenant": "default",
        "error_code": "http_status",
        "error_kind": "permanent",
        "error_message": "the server answered 422.",
        "error_hint": "Look at the body.",
        "context": '{"status":422}',
        "event": '{"specversion":"1.0","id":"e","source":"/s","type":"t","data":{"total":10.50}}',
        "wire": None,
        "outputs": '{"shape":{"id":1}}',
        "attempts": 1,
        "first_failed_at": 1000.0 + number,
        "last_failed_at": 1000.0 + number,
    }
    return DeadLetter(**{**values, **changes})


def encode_chunk(executions, **options):
    """The body of a chunk, as it is stored."""
    return compress(chunk_pieces(executions, **options))


def chunk(body=b"body", **changes):
    values = {
        "flow": "shop",
        "flow_version": "v1",
        "pipeline": "enrich",
        "source": "orders",
        "first_time": 1.0,
        "last_time": 2.0,
        "recorded_at": time.time(),
        "count": 1,
        "failed": 0,
        "body": body,
    }
    return HistoryChunk(**{**values, **changes})


def parked(turn=1, *, lane="k", attempts=1, due_at=10.0, **changes):
    values = {
        "step": "charge",
        "parked_at": 1000.0 + turn,
        "event_id": f"event-{turn}",
        "event_type": "order.created",
        "error_code": "http_status",
        "error_message": "the server answered 503.",
        "body": b"body",
    }
    name = f"019a0000-0000-7000-8000-{turn:012d}"
    place = ParkedPlace(name, "enrich", "orders", "orders/0", lane, turn, attempts, due_at)
    return Parked(place, **{**values, **changes})


def settlement(done=1, *, letters=(), history=None, pipeline="enrich", **counts):
    return Settlement(
        pipeline=pipeline,
        counts=Counts(done=done, **counts),
        dead_letters=list(letters),
        history=history,
    )


def commit(store, lease, settlements=(), checkpoint=None, lags=None):
    store.commit(lease, "orders", list(settlements), checkpoint or {}, lags or {})


def chunks(store, flow="shop"):
    """Return (recorded_at, bytes) of the stored history, oldest first."""
    query = (
        "SELECT recorded_at, bytes FROM penstock_history_chunks"
        f" WHERE flow = '{flow}' ORDER BY recorded_at"
    )
    return [tuple(row) for row in store._database.run(lambda c: c.exec_driver_sql(query).all())]
