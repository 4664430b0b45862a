"""A schedule in a whole flow: each second once, through kills, with workers and a standby."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.flows.runtime.running import file_sink, pipeline, publish, wait_for


def write(flow, **config):
    module = {"name": "tick", "type": "source.schedule", "config": {"every": "1s", **config}}
    flow.write(
        modules=[module, file_sink(flow.folder)],
        pipelines={"keep": pipeline("tick", publish("out"))},
    )


def assert_each_second_once(flow):
    seen = [event["data"]["scheduled_at"] for event in flow.lines()]
    assert len(seen) == len(set(seen)), "a time is twice in the file"
    seconds = [int(at[11:13]) * 3600 + int(at[14:16]) * 60 + int(at[17:19]) for at in seen]
    gaps = {(b - a) % 86400 for a, b in pairwise(seconds)}
    assert gaps == {1}, "times are in order, and none is missing"


@pytest.mark.chaos
@pytest.mark.parametrize(
    "point", ["after_effects_before_settle", "after_checkpoint_before_acknowledge"]
)
def test_a_kill_loses_no_time_and_repeats_none(flow, point):
    write(flow, missed="run_all")
    for _ in range(2):
        worker = flow.worker("tick", fail_point=f"{point}:3")
        assert worker.wait() == -9, worker.text()
    flow.catch_up("tick")
    assert len(flow.lines()) >= 4
    assert_each_second_once(flow)


@pytest.mark.slow
def test_several_workers_and_a_standby_make_each_event_once(flow):
    write(flow, missed="run_all")
    run = flow.start("--no-server", "--workers", "2")
    run.wait_until_started()
    standby = flow.start("--no-server", "--workers", "2")
    standby.wait_for_lines("standby: another worker runs this")
    wait_for(lambda: len(flow.lines()) >= 2, "some seconds")
    run.kill_all()
    before = len(flow.lines())
    wait_for(lambda: len(flow.lines()) > before + 2, "the standby's")
    standby.stop()
    assert_each_second_once(flow)
