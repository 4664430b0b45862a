"""A real booking service, and the flow whose sagas book with it: stock, payment, shipment."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from typing import Any, NamedTuple

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import kafka_source, pipeline, step
from tests.transforms.steps.answering import Answer, as_json

STEPS = ("reserve", "charge", "ship")
UNDOES = {"reserve": "release", "charge": "refund", "ship": "cancel"}
BOOKS = {undo: step for step, undo in UNDOES.items()}

SOON = {"max_attempts": 4, "initial_delay": "100ms", "max_delay": "200ms"}


def repeatable(action: str) -> dict[str, Any]:
    """A call that may be made again: the service knows it by its key, and so does our store."""
    return {"idempotent": True, "idempotency_key": action + "-{{ .data.order }}"}


class Call(NamedTuple):
    """A call that took effect."""

    action: str
    order: int


class Bookings:
    """Keeps what was booked and undone, in order. `fails(action, order, tries)` chooses answers."""

    def __init__(self, receiver: Any) -> None:
        self.receiver = receiver
        self.lock = threading.Lock()
        self.calls: list[Call] = []
        self.tries: dict[Call, int] = defaultdict(int)
        self.bodies: dict[Call, Any] = {}
        self.keys: dict[str, Answer] = {}
        self.fails = lambda action, order, tries: None
        self.late = lambda action, order, tries: None
        receiver.answer = self.answer

    def answer(self, seen):
        action = seen.path.strip("/")
        body = json.loads(seen.body)
        call = Call(action, body["order"])
        with self.lock:
            self.tries[call] += 1
            tries = self.tries[call]
            refusal = self.fails(action, call.order, tries)
            if refusal is not None:
                return refusal
            if action in BOOKS and Call(BOOKS[action], call.order) not in self.calls:
                return as_json({"order": call.order, "nothing": "to undo"})
            key = seen.headers.get("idempotency-key")
            if key is None or key not in self.keys:
                self.calls.append(call)
                self.bodies[call] = body
                answer = as_json({"order": call.order, "ticket": f"{action}-{call.order}"})
                if key is not None:
                    self.keys[key] = answer
            else:
                answer = self.keys[key]
            # It has taken effect; whether the caller hears of it is another matter.
            return self.late(action, call.order, tries) or answer

    def of(self, order: int) -> list[str]:
        """What took effect for an order, in order."""
        with self.lock:
            return [call.action for call in self.calls if call.order == order]

    def assert_nothing_half_booked(self, orders) -> tuple[int, int]:
        """Each order is booked whole, or each booking of it undone once, last first."""
        whole = undone = 0
        for order in orders:
            done = self.of(order)
            if done == list(STEPS):
                whole += 1
                continue
            booked = [action for action in done if action in UNDOES]
            released = [action for action in done if action not in UNDOES]
            assert booked == list(STEPS[: len(booked)]), (order, done)
            assert released == [UNDOES[action] for action in reversed(booked)], (order, done)
            undone += 1
        return whole, undone


class Booking:
    """Kafka → reserve → charge → ship, each with what undoes it."""

    def __init__(self, flow, kafka, service: Bookings) -> None:
        self.flow, self.kafka, self.service = flow, kafka, service
        self.topic = kafka.create_topic()

    def call(self, action: str, **config):
        return {
            "method": "POST",
            "url": f"{self.service.receiver.url}/{action}",
            "body": {"order": "{{ .data.order }}"},
            "timeout": "2s",
            **config,
        }

    def steps(self, *, keys: bool = False, **of_step):
        made = []
        for name in STEPS:
            more = dict(of_step.get(name, {}))
            config, undo = {}, {}
            if keys:
                config, undo = repeatable(name), repeatable(UNDOES[name])
            compensate = {
                "type": "step.http_call",
                "config": self.call(UNDOES[name], **undo) | more.pop("undo", {}),
                "retry": SOON,
                **more.pop("compensate", {}),
            }
            config |= more.pop("config", {})
            made.append(
                step(name, "http_call", self.call(name, **config), compensate=compensate, **more)
            )
        return made

    def pipeline(self, *, steps=None, saga=None, **more):
        return pipeline(
            "orders",
            *(self.steps() if steps is None else steps),
            saga={"enabled": True, **(saga or {})},
            **{"key": ".data.key", **more},
        )

    def write_flow(self, **more):
        self.write_pipelines(booking=self.pipeline(**more))

    def write_pipelines(self, **pipelines):
        self.flow.write(modules=[kafka_source(self.kafka, self.topic)], pipelines=pipelines)

    def send(self, numbers, keys=1000):
        values = [json.dumps({"order": n, "key": f"k{n % keys}"}).encode() for n in numbers]
        write(self.kafka, self.topic, *values)

    def sagas(self, status=None):
        with self.flow.store() as store:
            found = store.sagas.page("flow", pipeline=None, statuses=(), limit=1000)
        return [saga for _, saga in found if status is None or saga.status == status]
