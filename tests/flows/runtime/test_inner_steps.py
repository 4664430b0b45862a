"""Steps inside steps in a worker: what is called, published, recorded and repeated."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from flows.state.history import decode_chunk
from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)
from tests.transforms.steps.answering import Answer, as_json, serving

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(kafka):
    return kafka.create_topic()


@pytest.fixture
def server():
    with serving() as found:
        yield found


def order(number, *skus, **more):
    return json.dumps({"n": number, "items": [{"sku": sku} for sku in skus], **more}).encode()


def foreach(*steps, **config):
    return step("lines", "foreach", {"collection": "data.items", "steps": list(steps), **config})


def history(flow):
    with closing(sqlite3.connect(flow.folder / "state.db")) as database:
        return [body for (body,) in database.execute("SELECT body FROM penstock_history_chunks")]


def line(flow_lines):
    return [(one["data"]["order"], one["data"]["line"], one["data"]["sku"]) for one in flow_lines]


SHAPE = step(
    "shape", "jq", {"expression": "{order: .data.n, line: .index, sku: .steps.charge.output}"}
)


def test_every_line_of_an_order_is_charged_and_published(flow, kafka, topic, server):
    server.answer = lambda seen: (
        Answer(402, b"no money") if seen.path == "/poor" else as_json(seen.path.removeprefix("/"))
    )
    charge = step(
        "charge", "http_call", {"url": f"{server.url}/{{{{ .item.sku }}}}", "method": "POST"}
    )
    write(
        kafka,
        topic,
        order(1, "a", "b"),
        order(2, "c", "poor", "d"),
        order(3),
        order(4, "e"),
        key="k",
    )
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder), file_sink(flow.folder, "all")],
        pipelines={
            "charge": pipeline(
                "orders",
                foreach(charge, SHAPE, publish("out")),
                publish("all", "whole", data_from="steps.lines.output"),
            )
        },
    )
    flow.catch_up()
    assert line(flow.lines()) == [(1, 0, "a"), (1, 1, "b"), (2, 0, "c"), (4, 0, "e")]
    assert [one.path for one in server.seen] == ["/a", "/b", "/c", "/poor", "/e"]
    assert [one["data"]["count"] for one in flow.lines("all")] == [2, 0, 1]
    assert len({one["id"] for one in flow.lines()}) == 4
    (letter,) = flow.letters()
    assert (letter.step, letter.error_code) == ("lines[1].charge", "http_status")
    assert flow.totals() == {"charge": (3, 1, 0)}
    shown = flow.penstock("dlq", "show", letter.id, str(flow.path))
    assert "lines[1].charge" in shown.stdout
    views = [decode_chunk(body).executions for body in history(flow)]
    (ended,) = [end for view in views for end in view.ended.values()]
    assert ended.step == "lines[1].charge"


def test_branches_and_parallel_calls_in_a_worker(flow, kafka, topic, server):
    server.answer = lambda seen: as_json(seen.path)
    calls = [
        step(name, "http_call", {"url": f"{server.url}/{name}/{{{{ .n }}}}"})
        for name in ("rates", "stock")
    ]
    gold = [step("price", "set", {"values": {"price": 8}})]
    other = [step("price", "set", {"values": {"price": 10}})]
    made = {
        "expression": ". as $c | .steps.both.output.results + .steps.price.output + {n: $c.data.n}"
    }
    write(kafka, topic, order(1, tier="gold"), order(2), order(3, tier="gold"), key="k")
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={
            "price": pipeline(
                "orders",
                step("both", "parallel", {"steps": calls}),
                step(
                    "tier",
                    "branch",
                    {"field": "data.tier", "branches": {"gold": gold}, "default": other},
                ),
                step("shape", "jq", made),
                publish("out"),
            )
        },
    )
    flow.catch_up()
    assert [one["data"] for one in flow.lines()] == [
        {"rates": f"/rates/{n}", "stock": f"/stock/{n}", "price": price, "n": n}
        for n, price in ((1, 8), (2, 10), (3, 8))
    ]


def test_a_worker_that_dies_in_the_middle_of_a_loop_publishes_no_line_twice_to_a_file(
    flow, kafka, topic, server
):
    server.answer = lambda seen: (
        Answer(wait=server.released) if seen.path == "/stuck" and dies else as_json("x")
    )
    dies = True
    charge = step("charge", "http_call", {"url": f"{server.url}/{{{{ .item.sku }}}}"})
    write(kafka, topic, order(1, "a", "b", "stuck", "c"), key="k")
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={"charge": pipeline("orders", foreach(charge, SHAPE, publish("out")))},
    )
    worker = flow.worker()
    wait_for(lambda: any(one.path == "/stuck" for one in server.seen), "the call that hangs")
    worker.kill()
    first = [one["id"] for one in flow.lines()]
    dies = False
    flow.catch_up()
    lines = flow.lines()
    assert [one["data"]["line"] for one in lines] == [0, 1, 2, 3]
    assert [one["id"] for one in lines][: len(first)] == first
    assert flow.totals() == {"charge": (1, 0, 0)}


def test_a_drain_ends_a_loop_that_is_under_way(flow, kafka, topic, server):
    server.answer = lambda seen: as_json("x")
    charge = step("charge", "http_call", {"url": f"{server.url}/{{{{ .item.sku }}}}"})
    write(kafka, topic, order(1, *[str(number) for number in range(300)]), key="k")
    flow.write(
        modules=[kafka_source(kafka, topic), file_sink(flow.folder)],
        pipelines={"charge": pipeline("orders", foreach(charge, SHAPE, publish("out")))},
    )
    run = flow.start()
    wait_for(lambda: len(server.seen) > 3, "the loop to be under way")
    run.signal(signal.SIGTERM)
    assert run.wait() == 0, run.text()
    assert [one["data"]["line"] for one in flow.lines()] == list(range(300))
    assert flow.totals() == {"charge": (1, 0, 0)}
