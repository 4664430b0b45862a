"""Files in a whole flow: each line once through kills, what is broken as dead letters, a million lines."""

from __future__ import annotations

import json

import orjson
import pytest

from tests.flows.runtime.running import file_sink, pipeline, publish, wait_for

pytestmark = [pytest.mark.slow]


def write(flow, **config):
    config = {"path": f"{flow.folder}/in/*.jsonl", "poll_interval": "50ms", **config}
    flow.write(
        modules=[{"name": "drop", "type": "source.file", "config": config}, file_sink(flow.folder)],
        pipelines={"keep": pipeline("drop", publish("out"))},
        history={"record": "errors"},
    )
    (flow.folder / "in").mkdir(exist_ok=True)


def fill(flow, name, numbers):
    with (flow.folder / "in" / f"{name}.jsonl").open("a") as file:
        file.writelines(f'{{"n":{n},"text":"{"x" * 50}"}}\n' for n in numbers)


def found(flow):
    return [event["data"]["n"] for event in flow.lines()]


def test_a_source_of_files_ends_by_itself_and_goes_on_where_it_was(flow):
    write(flow)
    fill(flow, "a", range(3))
    run = flow.start("--no-server")
    assert run.wait() == 0
    fill(flow, "a", range(3, 5))
    fill(flow, "b", range(5, 6))
    run = flow.start("--no-server")
    assert run.wait() == 0
    assert sorted(found(flow)) == list(range(6))


def test_a_broken_line_is_a_dead_letter_with_its_bytes_and_its_line(flow):
    write(flow)
    (flow.folder / "in" / "a.jsonl").write_bytes(b'{"n":0}\n\xff not json\n{"n":1}\n')
    run = flow.start("--no-server")
    assert run.wait() == 0
    assert found(flow) == [0, 1]
    (letter,) = flow.letters()
    assert letter.error_code == "data_not_json"
    assert letter.wire == b"\xff not json"
    assert json.loads(letter.event)["line"] == 2


@pytest.mark.chaos
@pytest.mark.parametrize(
    "point",
    [
        "after_effects_before_settle",
        "after_settle_before_checkpoint",
        "after_checkpoint_before_acknowledge",
    ],
)
def test_a_kill_loses_no_line_and_repeats_none(flow, point):
    write(flow, follow=True)
    fill(flow, "a", range(6000))
    fill(flow, "b", range(6000, 9000))
    flow.killed_at(f"{point}:4", source="drop")
    worker = flow.worker("drop")
    wait_for(lambda: len(flow.lines()) > 2000, "some lines")
    (flow.folder / "in" / "a.jsonl").rename(flow.folder / "in" / "a.1.jsonl")
    fill(flow, "a", range(9000, 9500))
    worker.kill()
    flow.catch_up("drop")
    lines = found(flow)
    assert len(lines) == len(set(lines)), "a line is twice in the file"
    assert sorted(lines) == list(range(9500))


@pytest.mark.slow
def test_a_million_lines_arrive_with_their_sum(flow):
    write(flow)
    for name in range(4):
        fill(flow, name, range(name * 250_000, (name + 1) * 250_000))
    run = flow.start("--no-server", "--workers", "2")
    assert run.wait(170) == 0, run.text()
    count = total = 0
    for path in flow.folder.glob("out*.jsonl"):
        with path.open("rb") as file:
            for line in file:
                count += 1
                total += orjson.loads(line)["data"]["n"]
    assert (count, total) == (1_000_000, sum(range(1_000_000)))
