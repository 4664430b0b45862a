"""A flow that calls an HTTP service which a test lets fail: Kafka → a call per event → a file."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import file_sink, kafka_source, pipeline, publish, step
from tests.transforms.steps.answering import Answer

SOON = {"max_attempts": 5, "initial_delay": "200ms", "max_delay": "400ms"}


class Service:
    """An HTTP service that fails as `fails(number, key)` says, and keeps what it was asked."""

    def __init__(self, receiver):
        self.receiver = receiver
        self.fails = lambda number, tries: False
        self.tries = Counter()
        self.done = []
        receiver.answer = self.answer

    def answer(self, seen):
        body = json.loads(seen.body)
        number = body["n"]
        with self.receiver.lock:
            self.tries[number] += 1
            failure = self.fails(number, self.tries[number])
            if not failure:
                self.done.append((body["key"], number))
        if failure is True:
            return Answer(status=503)
        if failure:
            return failure
        return Answer(status=200, body=b"{}", headers={"content-type": "application/json"})


class Calling:
    """Kafka → an HTTP call per event → a file."""

    def __init__(self, flow, kafka, service):
        self.flow, self.kafka, self.service = flow, kafka, service
        self.topic = kafka.create_topic()

    def write_flow(self, retry=SOON, call=None, **more):
        self.flow.write(
            modules=[kafka_source(self.kafka, self.topic), file_sink(self.flow.folder)],
            pipelines={
                "calling": pipeline(
                    "orders",
                    step(
                        "call",
                        "http_call",
                        {
                            "method": "POST",
                            "url": f"{self.service.receiver.url}/do",
                            "body_from": "data",
                            "timeout": "2s",
                            **(call or {}),
                        },
                    ),
                    publish("out", data_from="data"),
                    key=".data.key",
                    retry=retry,
                    **more,
                )
            },
        )

    def send(self, numbers, keys=5):
        values = [json.dumps({"n": n, "key": f"k{n % keys}"}).encode() for n in numbers]
        write(self.kafka, self.topic, *values)

    def numbers(self):
        return [line["data"]["n"] for line in self.flow.lines()]

    def in_order(self):
        of_key = defaultdict(list)
        for key, number in self.service.done:
            if number not in of_key[key]:
                of_key[key].append(number)
        return all(found == sorted(found) for found in of_key.values())
