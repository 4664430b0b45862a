"""A flow whose source is out of reach, with dead letters in its state: all that a replay needs."""

from __future__ import annotations

import json
from collections import Counter

from tests.flows.runtime.running import FlowFolder, file_sink, pipeline, publish, step
from tests.flows.state.samples import commit, letter, settlement
from tests.transforms.steps.answering import Answer, as_json


class Shelf:
    """Dead letters of events {n, key}: step `look` asks the service, `call` changes it."""

    def __init__(self, folder, service, state_url=None):
        self.flow = FlowFolder(folder)
        if state_url is not None:
            self.flow.state_url = state_url
        self.service = service
        self.refuses = lambda path, number: False
        service.answer = self._answer

    def _answer(self, seen):
        number = int(json.loads(seen.body)["n"]) if seen.body else int(seen.path.rsplit("/")[-1])
        if self.refuses(seen.path.split("/")[1], number):
            return Answer(status=422)
        return as_json({"n": number, "big": 9007199254740993})

    def write_flow(self, *steps, **more):
        nowhere = {"brokers": "127.0.0.1:1", "topics": ["orders"]}
        self.flow.write(
            modules=[
                {"name": "orders", "type": "source.kafka", "config": nowhere},
                file_sink(self.flow.folder),
            ],
            pipelines={
                "ship": pipeline("orders", *steps, publish("out", data_from="data"), **more)
            },
        )

    def look(self):
        url = self.service.url + "/look/{{ .data.n }}"
        return step("look", "http_call", {"method": "GET", "url": url})

    def call(self, **more):
        config = {"method": "POST", "url": f"{self.service.url}/call", "body_from": "data"}
        return step("call", "http_call", config, **more)

    def fill(self, count, *, keys=5, **changes):
        """Store `count` dead letters; return their ids in the order of their events."""
        letters = [
            letter(
                number,
                **{
                    "flow": "flow",
                    "pipeline": "ship",
                    "source": "orders",
                    "partition": "orders/0",
                    "outputs": "{}",
                    "key": f"k{number % keys}",
                    "event": event(number, keys),
                    **changes,
                },
            )
            for number in range(1, count + 1)
        ]
        with self.flow.store() as store:
            lease = store.acquire_lease("flow", "orders/0", "filler", 60.0)
            settled = settlement(0, letters=letters, pipeline="ship")
            commit(store, lease, [settled])
            store.release_lease(lease)
        return [each.id for each in letters]

    def replay(self, *arguments, environ=None):
        return self.flow.penstock("dlq", "replay", *arguments, str(self.flow.path), environ=environ)

    def seen(self, path):
        """Number → how often the service was asked under this path."""
        calls = [each for each in self.service.seen if each.path.split("/")[1] == path]
        return Counter(
            int(json.loads(each.body)["n"]) if each.body else int(each.path.rsplit("/")[-1])
            for each in calls
        )

    def numbers(self):
        return [line["data"]["n"] for line in self.flow.lines()]


def event(number, keys=5):
    attributes = f'"specversion":"1.0","id":"e{number}","source":"/s","type":"order"'
    data = json.dumps({"n": number, "key": f"k{number % keys}"})
    return f'{{{attributes},"time":"2026-01-01T00:00:00Z","data":{data}}}'
