"""Input that is no event, through a whole flow: a dead letter each, with its bytes, and its neighbours pass."""

from __future__ import annotations

import base64
import json

import pytest

from penstock.cli.app import main
from tests.connectors.aws_sqs.driving import LOGIN
from tests.connectors.kafka.driving import write
from tests.connectors.redis_stream.driving import fresh
from tests.flows.runtime.running import FlowFolder, file_sink, pipeline, publish, wait_for
from tests.penstock.api.served import client_of
from tests.services.pubsub import PROJECT

pytestmark = [pytest.mark.slow]

LARGE = 10_000_000

POISON = {
    "not JSON": b'{"specversion":"1.0","id":',
    "JSON, and no CloudEvent": b'{"n":7}',
    "a CloudEvent without a type": b'{"specversion":"1.0","id":"7","source":"/t","data":{"n":7}}',
    "empty": b"",
    "wrong encoding": '{"specversion":"1.0","id":"7","source":"/t","type":"caf\u00e9"}'.encode(
        "latin-1"
    ),
}


def good(n):
    event = {"specversion": "1.0", "id": f"good-{n}", "source": "/t", "type": "order"}
    return json.dumps({**event, "data": {"n": n}}).encode()


def large(size):
    """Return a CloudEvent of that size but for its last brace."""
    start = b'{"specversion":"1.0","id":"large","source":"/t","type":"order","data":"'
    return start + b"x" * (size - len(start) - 1) + b'"'


class Feed:
    """An upstream and the module that reads it."""

    largest = LARGE
    leaves_out = frozenset()
    """Kinds of input that this upstream does not take, or that are no event in it."""

    def __init__(self, request, folder):
        self.folder = folder

    def poison(self):
        chosen = [body for kind, body in POISON.items() if kind not in self.leaves_out]
        return [*chosen, large(self.largest)]


class KafkaFeed(Feed):
    def __init__(self, request, folder):
        super().__init__(request, folder)
        self.kafka = request.getfixturevalue("kafka")
        self.topic = self.kafka.create_topic(max_message_bytes=11_000_000)

    def module(self):
        config = {"brokers": self.kafka.bootstrap, "topics": [self.topic]}
        return {"type": "source.kafka", "config": {**config, "format": "cloudevents"}}

    def feed(self, bodies):
        write(self.kafka, self.topic, *bodies, largest=11_000_000)


class RedisFeed(Feed):
    def __init__(self, request, folder):
        super().__init__(request, folder)
        self.url = request.getfixturevalue("redis_url")
        self.valkey = request.getfixturevalue("valkey")
        self.stream = fresh()

    def module(self):
        config = {"url": self.url, "streams": [self.stream], "group": "shop"}
        return {"type": "source.redis_stream", "config": {**config, "format": "cloudevents"}}

    def feed(self, bodies):
        with self.valkey.client() as client:
            for body in bodies:
                client.xadd(self.stream, {"data": body})


class SqsFeed(Feed):
    """SQS takes text alone, one byte at the least and 1 MiB at the most."""

    largest = 1_000_000
    leaves_out = frozenset({"empty", "wrong encoding"})

    def __init__(self, request, folder):
        super().__init__(request, folder)
        self.server = request.getfixturevalue("elasticmq")
        self.url = self.server.create_queue()

    def module(self):
        config = {"queue_url": self.url, "wait_time": "1s", **LOGIN}
        return {"type": "source.aws_sqs", "config": {**config, "format": "cloudevents"}}

    def feed(self, bodies):
        for body in bodies:
            self.server.send(self.url, [body.decode()])


class PubsubFeed(Feed):
    largest = 4_000_000  # the fake takes no more than gRPC does by default

    def __init__(self, request, folder):
        super().__init__(request, folder)
        self.pubsub = request.getfixturevalue("pubsub")
        self.topic = self.pubsub.topic()
        self.subscription = self.pubsub.subscription(self.topic)

    def module(self):
        config = {"project": PROJECT, "subscription": self.subscription}
        more = {"endpoint": self.pubsub.address, "format": "cloudevents"}
        return {"type": "source.gcp_pubsub", "config": {**config, **more}}

    def feed(self, bodies):
        for body in bodies:
            # A message without data must have an attribute.
            self.pubsub.publish(self.topic, [{"data": body, "attributes": {"made": "by hand"}}])


class FileFeed(Feed):
    leaves_out = frozenset({"empty"})  # an empty line is no event

    def module(self):
        path = f"{self.folder}/in.jsonl"
        return {"type": "source.file", "config": {"path": path, "format": "cloudevents_json"}}

    def feed(self, bodies):
        (self.folder / "in.jsonl").write_bytes(b"".join(body + b"\n" for body in bodies))


@pytest.fixture
def flow(tmp_path):
    made = FlowFolder(tmp_path)
    yield made
    made.end()


@pytest.fixture(
    params=[
        pytest.param(KafkaFeed, id="kafka", marks=pytest.mark.kafka),
        pytest.param(RedisFeed, id="redis_stream"),
        pytest.param(SqsFeed, id="aws_sqs"),
        pytest.param(PubsubFeed, id="gcp_pubsub"),
        pytest.param(FileFeed, id="file"),
    ]
)
def fed(request, tmp_path):
    return request.param(request, tmp_path)


def write_flow(flow, module, **trigger):
    flow.write(
        modules=[{"name": "in", **module}, file_sink(flow.folder)],
        pipelines={"keep": pipeline("in", publish("out"), trigger=trigger)},
        schemas={
            "order": {
                "version": "1.0",
                "type": "json",
                "data_schema": {"type": "object", "required": ["n"]},
            }
        },
    )


@pytest.fixture
def shown(flow, capsys):
    """Return what `penstock dlq show` prints of a dead letter."""

    def show(letter):
        assert main(["dlq", "show", letter.id, str(flow.path), "-o", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    return show


def numbers(flow):
    return sorted(event["data"]["n"] for event in flow.lines())


def test_each_is_a_dead_letter_with_its_bytes_and_its_neighbours_pass(flow, fed, shown):
    poison = fed.poison()
    bodies = [good(0)]
    for n, body in enumerate(poison, start=1):
        bodies += [body, good(n)]
    write_flow(flow, fed.module())
    fed.feed(bodies)
    flow.catch_up("in")
    assert numbers(flow) == list(range(len(poison) + 1))
    letters = flow.letters()
    assert sorted(letter.wire or b"" for letter in letters) == sorted(poison)
    assert flow.totals() == {"keep": (len(poison) + 1, len(poison), 0)}
    for letter in letters:
        found = shown(letter)
        assert base64.b64decode(found["wire_base64"] or "") == (letter.wire or b"")
        assert found["error"]["kind"] == "permanent"
        assert found["step"] is None


def test_a_request_that_is_no_event_is_refused_and_its_neighbours_pass(flow, shown):
    """Its sender is told at once; what is an event and does not fit its schema is a dead letter."""
    config = {"path": "/in", "format": "cloudevents", "max_body": 11_000_000}
    write_flow(flow, {"type": "source.http", "config": config}, schema="order")
    headers = {"content-type": "application/cloudevents+json"}
    run = flow.start("--address", "127.0.0.1:0")
    with client_of(run) as client:
        run.wait_until_started()

        def send(body):
            return client.post("/in", content=body, headers=headers).status_code

        assert send(good(0)) == 202
        refused = [*POISON.values(), large(LARGE), b"x" * 11_000_001]
        for n, body in enumerate(refused, start=1):
            status = 413 if len(body) > 11_000_000 else 400
            assert (send(body), send(good(n))) == (status, 202)
        misfit = large(LARGE) + b"}"
        assert send(misfit) == 202
        wait_for(lambda: len(flow.lines()) == len(refused) + 1 and flow.letters(), "all of them")
        assert run.stop() == 0
    assert numbers(flow) == list(range(len(refused) + 1))
    (letter,) = flow.letters()
    assert shown(letter)["event"]["data"] == json.loads(misfit)["data"]
    assert letter.error_code == "schema_invalid"
