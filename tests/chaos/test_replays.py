"""Thousands of dead letters replayed while live events flow and everything is killed."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict

import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.running import (
    FlowFolder,
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)
from tests.flows.state.samples import commit, letter, settlement

pytestmark = [pytest.mark.chaos, pytest.mark.kafka]

KILLS = min(20, int(os.environ.get("PENSTOCK_CHAOS_KILLS", "9")) // 3)
LETTERS, KEYS = 5000 if KILLS == 20 else 2000, 200
KINDS = ("schema_invalid", "http_status", "jq_error", "step_timeout")


@pytest.fixture
def flow(tmp_path, kafka):
    made = FlowFolder(tmp_path)
    made.topic = kafka.create_topic()
    made.write(
        modules=[kafka_source(kafka, made.topic), file_sink(tmp_path)],
        pipelines={
            "ship": pipeline(
                "orders",
                step(
                    "check", "jq", {"expression": 'if .data.bad then error("bad") else .data end'}
                ),
                publish("out", data_from="steps.check.output"),
                key=".data.key",
            )
        },
    )
    yield made
    made.end()


def fill(flow):
    """Store dead letters of four kinds; of each hundred, two will fail again."""
    letters = []
    for number in range(LETTERS):
        data = {"n": number, "key": f"k{number % KEYS}", "bad": number % 50 == 49}
        event = {
            "specversion": "1.0",
            "id": f"{flow.topic}/0/{number}",
            "source": f"/kafka/{flow.topic}",
            "type": "order",
            "time": "2026-01-01T00:00:00Z",
            "data": data,
        }
        letters.append(
            letter(
                number,
                flow="flow",
                pipeline="ship",
                source="orders",
                partition=f"{flow.topic}/0",
                error_code=KINDS[number % 4],
                outputs="{}",
                event=json.dumps(event),
            )
        )
    with flow.store() as store:
        lease = store.acquire_lease("flow", "orders/0", "filler", 60.0)
        commit(store, lease, [settlement(0, letters=letters, pipeline="ship")])
        store.release_lease(lease)


@pytest.mark.timeout(600)
def test_thousands_are_accounted_for_among_live_events_and_kills(flow, kafka):
    fill(flow)
    asked = flow.penstock("dlq", "replay", "--all", "--rate", "1000/s", "--no-wait", str(flow.path))
    assert asked.returncode == 0, asked.stderr
    live = LETTERS

    def send():
        nonlocal live
        numbers = range(live, live + 200)
        write(
            kafka,
            flow.topic,
            *(json.dumps({"n": n, "key": f"k{n % KEYS}"}).encode() for n in numbers),
        )
        live += 200

    def replayed():
        with flow.store() as store:
            return store.replays.get(1)

    for _ in range(KILLS):
        run = flow.start()
        run.wait_until_started()
        send()
        before = replayed().ended
        wait_for(
            lambda before=before: (now := replayed()).is_over or now.ended >= before + 300,
            "some of the replay",
        )
        run.kill_all()
    run = flow.start()
    run.wait_until_started()
    send()
    found = wait_for(lambda: (now := replayed()).is_over and now, "the end of the replay")
    expected = LETTERS - LETTERS // 50 + live - LETTERS
    wait_for(lambda: len(flow.lines()) == expected, "all events")
    assert run.stop() == 0, run.text()

    assert (found.total, found.failed) == (LETTERS, LETTERS // 50)
    assert found.done == LETTERS - LETTERS // 50
    numbers = [line["data"]["n"] for line in flow.lines()]
    assert Counter(numbers).most_common(1)[0][1] == 1
    assert set(numbers) == {n for n in range(live) if n >= LETTERS or n % 50 != 49}
    left = flow.letters()
    assert sorted(json.loads(each.event)["data"]["n"] for each in left) == list(
        range(49, LETTERS, 50)
    )
    assert {(each.replays, each.status, each.error_code) for each in left} == {
        (1, "waiting", "jq_error")
    }
    of_key = defaultdict(list)
    for number in numbers:
        of_key[number % KEYS, number < LETTERS].append(number)
    assert all(order == sorted(order) for order in of_key.values())
