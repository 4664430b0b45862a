"""Idempotency keys and circuit breakers within `delivery: exactly_once`, while workers are killed."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from connectors.failpoints import TRANSACTION_NAMES
from tests.flows.runtime.running import step
from tests.flows.runtime.test_exactly_once import PARTITIONS, Copying
from tests.matrix import matrix
from tests.transforms.steps.answering import Answer, serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

KEY = "{{ .data.p }}/{{ .data.n }}"


def killed(flow, *points):
    for point in points:
        flow.killed_at(point)


@matrix(
    "point, store",
    product(TRANSACTION_NAMES, ["state", "valkey"]),
    usual=[  # Valkey is told of keys apart from the transaction that settles: after it, mostly
        ("after_effects_before_settle", "state"),
        ("after_prepare_before_commit", "valkey"),
        ("after_commit_before_settle", "state"),
        ("after_settle_before_checkpoint", "valkey"),
        ("after_checkpoint_before_acknowledge", "valkey"),
    ],
)
def test_a_kill_forgets_no_key_that_was_done_and_holds_none_that_was_not(
    request, flow, kafka, store, point
):
    if store == "valkey":
        store = request.getfixturevalue("redis_url")
    copying = Copying(flow, kafka, idempotency={"key_template": KEY, "store": store})
    copying.fill(50)
    killed(flow, f"{point}:1")
    copying.catch_up()
    copying.counts = [0] * PARTITIONS
    copying.fill(50)  # the same keys and data, in events of their own
    copying.fill(5)
    killed(flow, f"{point}:1")
    copying.catch_up()
    assert copying.seen() == [list(range(55))] * PARTITIONS
    done, failed, _ = flow.totals()["copy"]
    assert (done, failed, flow.parked()) == (PARTITIONS * 55, 0, 0)


def test_an_idempotent_step_acts_once_though_its_transactions_are_aborted(flow, kafka, tmp_path):
    (tmp_path / "ledger.py").write_text(
        "import os\n"
        f"FILE = {str(tmp_path / 'ledger.txt')!r}\n"
        "def note(data):\n"
        "    fd = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "    os.write(fd, f\"{data['p']}/{data['n']}\\n\".encode())\n"
        "    os.close(fd)\n"
        "    return data\n"
    )
    config = {"function": "ledger:note", "idempotent": True, "effect": True}
    copying = Copying(flow, kafka, step("note", "python", config), shape_last=True)
    copying.fill(60)
    killed(
        flow,
        "after_effects_before_settle:1",
        "after_prepare_before_commit:1",
        "after_commit_before_settle:1",
    )
    copying.catch_up()
    copying.check()
    noted = Counter(Path(tmp_path / "ledger.txt").read_text().split())
    assert noted == {f"{p}/{n}": 1 for p in range(PARTITIONS) for n in range(60)}


def test_what_waits_for_a_circuit_is_published_once_and_in_order_though_workers_die(flow, kafka):
    refused = 12

    def answer(seen):
        with receiver.lock:
            answered[0] += 1
            if answered[0] <= refused:
                return Answer(status=503)
        body = json.loads(seen.body)
        return Answer(status=200, body=json.dumps(body).encode(), headers=JSON)

    answered = [0]
    with serving() as receiver:
        receiver.answer = answer
        call = {
            "method": "POST",
            "url": f"{receiver.url}/do",
            "body_from": "data",
            "timeout": "5s",
            "circuit_breaker": {"enabled": True, "failure_threshold": 3, "timeout": "300ms"},
        }
        retry = {"max_attempts": 50, "initial_delay": "100ms", "max_delay": "200ms"}
        copying = Copying(
            flow, kafka, step("call", "http_call", call), shape_last=True, retry=retry, order="key"
        )
        copying.fill(30)
        killed(flow, "after_commit_before_settle:1", "after_prepare_before_commit:2")
        copying.catch_up()
    copying.check()
    assert answered[0] > refused
    assert flow.letters() == []


JSON = {"content-type": "application/json"}
