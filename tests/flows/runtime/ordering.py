"""A flow that orders once per key: Kafka → a call per event → a file, and the service that is called."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

from flows.state.history import decode_chunk
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, step
from tests.transforms.steps.answering import Answer, as_json

SOON = {"max_attempts": 5, "initial_delay": "100ms", "max_delay": "200ms"}


class Orders:
    """An HTTP service that takes orders, and knows one that it has by its `Idempotency-Key`."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.answers = lambda order, tries: None
        self.calls = Counter()
        """Order → calls."""
        self.effects = Counter()
        """Order → times that it was taken, but for those whose key was there already."""
        self.keys = {}
        receiver.answer = self.answer

    def answer(self, seen):
        body = json.loads(seen.body)
        order = body["order"]
        key = seen.headers.get("idempotency-key")
        with self.receiver.lock:
            self.calls[order] += 1
            failure = self.answers(order, self.calls[order])
            if failure is not None:
                return failure
            if key is None or key not in self.keys:
                self.effects[order] += 1
                self.keys[key] = self.effects.total()
            return as_json({"order": order, "receipt": self.keys[key]})


class Ordering:
    """Kafka → an HTTP call per event → a file."""

    def __init__(self, flow, kafka, service):
        self.flow, self.kafka, self.service = flow, kafka, service
        self.topic = kafka.create_topic(partitions=2)
        self.key = {"key_template": "order_{{ .data.order }}"}
        """The pipeline's `idempotency`."""

    def write_flow(self, config=None, steps=(), undo=None, **more):
        """`config` is of the call, `undo` its compensation, `more` of the pipeline."""
        if self.key:
            more = {"idempotency": self.key, **more}
        call = {
            "method": "POST",
            "url": f"{self.service.receiver.url}/order",
            "body_from": "data",
            "timeout": "10s",
            **(config or {}),
        }
        self.flow.write(
            modules=[kafka_source(self.kafka, self.topic), file_sink(self.flow.folder)],
            pipelines={
                "ordering": pipeline(
                    "orders",
                    step("call", "http_call", call, **({"compensate": undo} if undo else {})),
                    *steps,
                    publish("out", data_from="steps.call.output"),
                    retry=SOON,
                    **more,
                )
            },
        )

    def send(self, *orders, partition=0, **more):
        values = [json.dumps({"order": order, **more}).encode() for order in orders]
        write(self.kafka, self.topic, *values, partition=partition)

    def published(self):
        return [line["data"]["order"] for line in self.flow.lines()]

    def duplicates(self):
        """Each execution that was skipped as a duplicate: (original's id, its result)."""
        found = []
        for view in self.views():
            for duplicate in view.executions.duplicates.values():
                result = None if duplicate.result is None else json.loads(duplicate.result)
                found.append((duplicate.original, result))
        return found

    def done(self):
        """Order → the id of the execution that did it."""
        found = {}
        for view in self.views():
            executions = view.executions
            for index in range(executions.events.size):
                if index not in executions.ended:
                    order = executions.events.column("data")[index]["order"]
                    found[order] = executions.execution_id(index)
        return found

    def views(self):
        with sqlite3.connect(self.flow.folder / "state.db") as state:
            bodies = state.execute("SELECT body FROM penstock_history_chunks ORDER BY id")
            return [decode_chunk(body) for (body,) in bodies]


UNAVAILABLE = Answer(status=503)
REFUSED = Answer(status=422)
