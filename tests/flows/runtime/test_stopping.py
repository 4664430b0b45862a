"""A stop while something says nothing: the run ends, nothing is settled that was not delivered, nothing is lost."""

from __future__ import annotations

import json
import signal

import psycopg
import pytest

from tests.connectors.kafka.driving import write
from tests.flows.runtime.far_sides import SINKS, SOURCES, through_postgres
from tests.flows.runtime.running import (
    cdc_source,
    file_sink,
    kafka_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)
from tests.penstock.api.served import client_of
from tests.transforms.steps.answering import as_json

pytestmark = [pytest.mark.slow]

GIVEN_UP = "drain_timeout"

ANY_PORT = ("--address", "127.0.0.1:0")

IN_A_SECOND = ("--drain-timeout", "1s", *ANY_PORT)

ENDS_WITHIN = 25.0
"""Seconds: far below what the sinks of these tests wait for an answer."""


@pytest.fixture
def receiver(receiver):
    receiver.answer = lambda seen: as_json({"ok": True})
    return receiver


@pytest.fixture(params=SINKS)
def far(request):
    return request.param(request)


@pytest.fixture(params=SOURCES)
def near(request):
    return request.param(request)


@pytest.fixture
def drop(flow):
    """Writes numbered lines into the file that the flow follows."""

    def write(numbers):
        folder = flow.folder / "in"
        folder.mkdir(exist_ok=True)
        with (folder / "a.jsonl").open("a") as file:
            file.writelines(f'{{"n":{n}}}\n' for n in numbers)

    write(())
    return write


def followed(flow, **config):
    config = {
        "path": f"{flow.folder}/in/*.jsonl",
        "follow": True,
        "poll_interval": "50ms",
        **config,
    }
    return {"name": "drop", "type": "source.file", "config": config}


def gate(flow, n):
    """A step that makes the file `reached` when event `n` comes to it, and waits there for the file `open`."""
    (flow.folder / "gate.py").write_text(
        "import pathlib, time\n\n"
        "def wait(data):\n"
        f"    folder = pathlib.Path({str(flow.folder)!r})\n"
        f"    if data['n'] == {n}:\n"
        "        (folder / 'reached').touch()\n"
        "        while not (folder / 'open').exists():\n"
        "            time.sleep(0.01)\n"
        "    return data\n"
    )
    return step("gate", "python", {"function": "gate:wait"})


def write_flow(flow, far):
    modules = [followed(flow)] if far.module is None else [followed(flow), far.module]
    flow.write(modules=modules, pipelines={"keep": pipeline("drop", *far.steps)})


def wait_until_in_flight(run):
    """Wait until events are in the steps, as the API has it."""
    with client_of(run) as client:

        def active():
            metrics = client.get("/metrics").text
            lines = [x for x in metrics.splitlines() if x.startswith("workflow_pipeline_active_ex")]
            return any(float(line.rpartition(" ")[2]) > 0 for line in lines)

        wait_for(active, "events in flight")


def given_up(run):
    """The line in which a worker says that it gave up."""
    (line,) = (x for x in run.text().splitlines() if x.startswith("{") and GIVEN_UP in x)
    return json.loads(line)


def test_a_stop_while_a_delivery_stalls_ends_and_what_was_in_flight_comes_again(flow, far, drop):
    write_flow(flow, far)
    drop(range(10))
    run = flow.start(*IN_A_SECOND)
    wait_for(lambda: flow.totals() == {"keep": (10, 0, 0)}, "the first ten")
    run.wait_until_started()
    far.proxy.stall()
    drop(range(10, 20))
    wait_until_in_flight(run)
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 3, run.text()
    assert run.workers_left() == []
    assert flow.totals() == {"keep": (10, 0, 0)}
    far.proxy.restore()

    assert "Traceback" not in run.text()
    told = given_up(run)
    assert told["level"] == "warning"
    assert told["pipeline"] == "keep"
    assert {name: told[name] for name in far.waits} == far.waits
    assert "come again at the next start" in told["hint"]

    again = flow.run()
    assert "standby" not in again, "the lease was given back"
    arrived = far.arrived()
    assert set(arrived) == set(range(20))
    assert not far.once or len(arrived) == 20
    assert flow.totals() == {"keep": (20, 0, 0)}
    assert flow.letters() == []


def test_a_stop_while_a_source_says_nothing_ends_and_each_event_is_done_once(flow, near):
    """Those it has told of, of which it could not be told that they are done, and those that wait there."""
    flow.write(
        modules=[near.module, file_sink(flow.folder)],
        pipelines={"keep": pipeline("near", gate(flow, 10), publish("out", data_from="data"))},
    )
    near.add(range(10))
    run = flow.start(*IN_A_SECOND)
    wait_for(lambda: flow.totals() == {"keep": (10, 0, 0)}, "the first ten")
    run.wait_until_started()
    near.add(range(10, 20))
    wait_for((flow.folder / "reached").exists, "the next ten in the steps")
    near.proxy.stall()
    near.add(range(20, 30))
    (flow.folder / "open").touch()
    wait_for(lambda: flow.totals()["keep"][0] > 10, "some of them to be done")
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 0, run.text()
    assert run.workers_left() == []
    assert "Traceback" not in run.text()
    assert flow.totals() == {"keep": (len(flow.lines()), 0, 0)}
    near.proxy.restore()

    again = flow.start()
    wait_for(lambda: flow.totals()["keep"][0] == 30 and not near.left(), "all to be done")
    assert again.stop() == 0, again.text()
    assert "standby" not in again.text(), "the lease was given back"
    assert sorted(line["data"]["n"] for line in flow.lines()) == list(range(30))
    assert flow.totals() == {"keep": (30, 0, 0)}


def test_a_file_is_whole_and_has_each_event_once_though_a_later_step_was_given_up(
    flow, receiver, drop
):
    """Its lines were written and not settled: they are cut back, and written with the others."""
    stuck = []

    def answer(seen):
        stuck.append(seen)
        return as_json({"ok": True})._replace(wait=None if len(stuck) <= 10 else receiver.released)

    receiver.answer = answer
    call = step("call", "http_call", {"url": receiver.url, "method": "POST", "timeout": "60s"})
    flow.write(
        modules=[followed(flow), file_sink(flow.folder)],
        pipelines={"keep": pipeline("drop", publish("out"), call)},
    )
    drop(range(10))
    run = flow.start(*IN_A_SECOND)
    wait_for(lambda: flow.totals() == {"keep": (10, 0, 0)}, "the first ten")
    drop(range(10, 20))
    wait_until_in_flight(run)
    run.signal(signal.SIGINT)
    assert run.wait(ENDS_WITHIN) == 3, run.text()
    assert given_up(run)["step"] == "call"
    receiver.answer = lambda seen: as_json({"ok": True})
    flow.run()
    assert [line["data"]["n"] for line in flow.lines()] == list(range(20))
    assert flow.totals() == {"keep": (20, 0, 0)}


def test_code_that_lets_no_other_thread_run_is_killed(flow, drop):
    """Nobody in the process can do anything: not even say so."""
    marker = flow.folder / "stuck"
    (flow.folder / "stuck.py").write_text(
        "import ctypes, pathlib\n\n"
        f"MARKER = pathlib.Path({str(marker)!r})\n\n"
        "def wait(data):\n"
        "    if MARKER.exists():\n"
        "        return data\n"
        "    MARKER.touch()\n"
        "    mutex = ctypes.create_string_buffer(64)\n"
        "    for _ in range(2):  # a second time it waits for ever, with the interpreter's lock held\n"
        "        ctypes.PyDLL(None).pthread_mutex_lock(mutex)\n"
    )
    stuck = step("stuck", "python", {"function": "stuck:wait"})
    flow.write(
        modules=[followed(flow), file_sink(flow.folder)],
        pipelines={"keep": pipeline("drop", stuck, publish("out"))},
    )
    drop(range(3))
    run = flow.start(*IN_A_SECOND)
    wait_for(marker.exists, "the step")
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 3, run.text()
    assert run.workers_left() == []
    assert "worker 0 of drop did not end" in run.text()
    assert "come again at the next start" in run.text()
    flow.run()
    assert [line["data"]["n"] for line in flow.lines()] == [0, 1, 2]


def test_a_far_side_that_says_nothing_does_not_hold_up_a_stop_with_nothing_in_flight(
    flow, far, drop
):
    write_flow(flow, far)
    drop(range(10))
    run = flow.start("--drain-timeout", "10s")
    wait_for(lambda: flow.totals() == {"keep": (10, 0, 0)}, "the first ten")
    far.proxy.stall()
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 0, run.text()
    assert run.workers_left() == []
    assert GIVEN_UP not in run.text()
    far.proxy.restore()
    flow.run()
    assert sorted(far.arrived()) == list(range(10))
    assert flow.totals() == {"keep": (10, 0, 0)}


def test_a_sink_that_says_nothing_when_it_is_opened_does_not_hold_up_a_stop(flow, request, drop):
    far = through_postgres(request)
    write_flow(flow, far)
    far.proxy.stall()
    drop(range(10))
    run = flow.start(*IN_A_SECOND)
    wait_for(lambda: leases(flow), "the worker, which has its lease and opens its sink")
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 3, run.text()
    assert run.workers_left() == []
    assert "it had not started yet" in given_up(run)["error"]
    far.proxy.restore()
    assert "standby" not in flow.run()
    assert sorted(far.arrived()) == list(range(10))


def leases(flow):
    with flow.store() as store:
        return store.shards("flow", "drop")


@pytest.mark.postgres
def test_a_cluster_ends_though_one_delivery_stalls(flow, receiver, database):
    """All its processes: one waits for an answer, the others for that one."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        connection.execute("INSERT INTO t SELECT generate_series(0, 19)")
    receiver.answer = lambda seen: as_json({"ok": True})._replace(
        wait=receiver.released if json.loads(seen.body)["n"] == 7 else None
    )
    config = {"url": receiver.url, "method": "POST", "timeout": "60s", "body_from": "data"}
    flow.write(
        modules=[cdc_source(database, "stopped_cluster", "t"), file_sink(flow.folder)],
        pipelines={
            "keep": pipeline(
                "rows",
                step("call", "http_call", config),
                publish("out", data_from="data"),
                partition_by=".data.n",
            )
        },
    )
    run = flow.start("--workers", "2", *IN_A_SECOND)
    wait_for(lambda: any(json.loads(x.body)["n"] == 7 for x in receiver.seen), "the stuck call")
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 3, run.text()
    assert run.workers_left() == []
    assert GIVEN_UP in run.text()
    receiver.answer = lambda seen: as_json({"ok": True})
    flow.run("--workers", "2")
    assert sorted(line["data"]["n"] for line in flow.lines()) == list(range(20))
    assert flow.totals() == {"keep": (20, 0, 0)}


@pytest.mark.kafka
def test_a_transaction_that_can_not_be_committed_is_given_up_and_each_event_is_there_once(
    flow, kafka, kafka_proxy
):
    topic, target = kafka.create_topic(), kafka.create_topic()
    source = kafka_source(kafka, topic, "orders", brokers=kafka.proxied_bootstrap)
    copy = pipeline("orders", gate(flow, 10), publish("topic"), delivery="exactly_once")
    flow.write(
        modules=[source, kafka_sink(kafka.proxied_bootstrap, target)], pipelines={"copy": copy}
    )
    count = 20
    write(kafka, topic, *[b'{"n":%d}' % n for n in range(10)])
    run = flow.start(*IN_A_SECOND)
    wait_for(lambda: flow.totals() == {"copy": (10, 0, 0)}, "the first ten")
    write(kafka, topic, *[b'{"n":%d}' % n for n in range(10, count)])
    wait_for((flow.folder / "reached").exists, "an open transaction")
    kafka_proxy.stall()
    (flow.folder / "open").touch()
    run.signal(signal.SIGTERM)
    assert run.wait(ENDS_WITHIN) == 3, run.text()
    assert run.workers_left() == []
    kafka_proxy.restore()
    flow.run()
    copied = [json.loads(each.value())["data"]["n"] for each in kafka.read_all(target, count)]
    assert copied == list(range(count))
    assert flow.totals() == {"copy": (count, 0, 0)}


def test_a_process_that_a_step_forks_and_ends_is_not_taken_for_the_worker(flow, drop):
    (flow.folder / "forking.py").write_text(
        "import multiprocessing, time\n\n"
        "def fork(data):\n"
        "    child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,))\n"
        "    child.start()\n"
        "    child.terminate()\n"
        "    child.join()\n"
        "    return {**data, 'ended_by': -child.exitcode}\n"
    )
    forks = step("fork", "python", {"function": "forking:fork"})
    flow.write(
        modules=[followed(flow), file_sink(flow.folder)],
        pipelines={"keep": pipeline("drop", forks, publish("out"))},
    )
    run = flow.start(*ANY_PORT)
    for n in range(3):
        drop([n])
        wait_for(lambda n=n: len(flow.lines()) == n + 1, "the line")
    assert run.stop() == 0, run.text()
    assert [line["data"] for line in flow.lines()] == [{"n": n, "ended_by": 15} for n in range(3)]
