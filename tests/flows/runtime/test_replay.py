"""Dead letters replayed by a worker that runs: each once, in order with live events of its key."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import product

import pytest

from connectors.errors import FlowFileError
from dlq.replay import Request, Selection, ask
from flows.state.letter_filter import LetterFilter
from tests.connectors.kafka.driving import write
from tests.flows.runtime.calling import SOON, Calling, Service
from tests.flows.runtime.running import (
    FlowFolder,
    file_sink,
    kafka_source,
    pipeline,
    publish,
    step,
    wait_for,
)
from tests.matrix import matrix
from tests.transforms.steps.answering import Answer, as_json, serving

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def replay(flow, *ids, **options):
    """Ask for a replay of these dead letters, or of all; return its number."""
    wanted = LetterFilter(flow="flow", ids=ids)
    with flow.store() as store:
        return ask(store, Request(Selection(wanted), by="ann", **options)).id


def state(flow, number):
    with flow.store() as store:
        return store.replays.get(number)


def wait_until_over(flow, number):
    return wait_for(
        lambda: (found := state(flow, number)).is_over and found, f"the end of replay {number}"
    )


def refuse_every_tenth(number, tries):
    return number % 10 == 0 and Answer(status=422)


def break_events(calling):
    """Send events of which every tenth is refused for good."""
    calling.write_flow(retry={**SOON, "max_attempts": 2})
    calling.service.fails = refuse_every_tenth
    calling.send(range(50))
    calling.flow.catch_up()
    assert len(calling.flow.letters()) == 5
    calling.service.tries.clear()
    calling.service.done.clear()
    return calling


@pytest.fixture
def alone(calling):
    """A flow of this test's own, with its dead letters: for who sends more events to its topic."""
    return break_events(calling)


@pytest.fixture(scope="module")
def broken_once(tmp_path_factory, kafka):
    """A flow with its dead letters, and a copy of its folder: each test begins where it stands."""
    folder = tmp_path_factory.mktemp("broken")
    copy = tmp_path_factory.mktemp("copies") / "broken"
    with serving() as receiver:
        calling = break_events(Calling(FlowFolder(folder), kafka, Service(receiver)))
        shutil.copytree(folder, copy)
        yield calling, copy


@pytest.fixture
def broken(broken_once):
    """A flow whose service refuses every tenth event for good, and its dead letters."""
    calling, copy = broken_once
    folder = calling.flow.folder
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    calling.service.fails = refuse_every_tenth
    calling.service.tries.clear()
    calling.service.done.clear()
    calling.flow = FlowFolder(folder)
    yield calling
    calling.flow.end()


def mend(calling):
    calling.service.fails = lambda number, tries: False


def test_a_running_worker_replays_what_is_asked_for_and_success_removes_it(broken):
    mend(broken)
    run = broken.flow.start()
    run.wait_until_started()
    letters = broken.flow.letters()
    number = replay(broken.flow, *(each.id for each in letters[:3]))
    found = wait_until_over(broken.flow, number)
    assert (found.total, found.done, found.failed) == (3, 3, 0)
    assert [each.id for each in broken.flow.letters()] == [each.id for each in letters[3:]]
    assert run.stop() == 0, run.text()
    assert broken.service.tries == {0: 1, 10: 1, 20: 1}
    assert sorted(broken.numbers()) == sorted([n for n in range(50) if n % 10 or n in {0, 10, 20}])
    with broken.flow.store() as store:
        entries = store.replays.entries(number, 10)
    assert {each.status for each in entries} == {"done"}
    executions = {each.execution for each in entries}
    assert len(executions) == 3
    assert not executions & {each.id for each in letters}


def test_a_replay_that_fails_again_is_the_same_entry(broken):
    broken.service.fails = lambda number, tries: Answer(status=410)
    run = broken.flow.worker()
    before = {each.id: each for each in broken.flow.letters()}
    found = wait_until_over(broken.flow, replay(broken.flow))
    assert run.drain() == 0, run.text()
    assert (found.done, found.failed) == (0, 5)
    after = {each.id: each for each in broken.flow.letters()}
    assert after.keys() == before.keys()
    for name, letter in after.items():
        assert (letter.status, letter.replays, letter.attempts) == ("waiting", 1, 2)
        assert json.loads(letter.context)["status"] == 410
        assert letter.first_failed_at == before[name].first_failed_at
        assert letter.last_failed_at > before[name].last_failed_at
        assert letter.event == before[name].event
    assert broken.flow.totals() == {"calling": (45, 10, 0)}


def test_a_replay_that_fails_for_now_is_tried_again(broken):
    broken.service.fails = lambda number, tries: tries == 1
    run = broken.flow.worker()
    found = wait_until_over(broken.flow, replay(broken.flow))
    assert run.drain() == 0, run.text()
    assert found.done == 5
    assert set(broken.service.tries.values()) == {2}


def test_live_events_wait_behind_a_replay_of_their_key(alone):
    """All are of one key: what comes after the replay has begun is not before it."""
    mended = []
    alone.service.fails = lambda number, tries: not mended and number == 0
    alone.write_flow(retry={**SOON, "max_attempts": 1000})
    run = alone.flow.worker()
    number = replay(alone.flow)
    wait_for(lambda: alone.service.tries[0] > 1, "the replay to be tried")
    alone.send(range(100, 110), keys=5)
    wait_for(
        lambda: {n for _, n in alone.service.done} >= {101, 102, 103, 104}, "other keys to go on"
    )
    assert not {100, 105} & {n for _, n in alone.service.done}
    mended.append(True)
    wait_until_over(alone.flow, number)
    wait_for(lambda: len(alone.numbers()) == 60, "all events")
    assert run.drain() == 0, run.text()
    assert [n for key, n in alone.service.done if key == "k0"] == [0, 10, 20, 30, 40, 100, 105]


def test_two_who_replay_all_at_once_run_each_once(broken):
    mend(broken)
    first, second = replay(broken.flow), replay(broken.flow)
    run = broken.flow.worker()
    found = [wait_until_over(broken.flow, each) for each in (first, second)]
    assert run.drain() == 0, run.text()
    assert [each.total for each in found] == [5, 0]
    assert set(broken.service.tries.values()) == {1}


def test_an_edited_event_is_replayed_with_its_new_data_and_the_original_is_kept(broken):
    mend(broken)
    run = broken.flow.worker()
    number = replay(broken.flow, edit=".n += 1000 | .big = 9007199254740993")
    wait_until_over(broken.flow, number)
    assert run.drain() == 0, run.text()
    assert broken.service.tries == Counter({n + 1000: 1 for n in range(0, 50, 10)})
    edited = [line["data"] for line in broken.flow.lines() if line["data"]["n"] >= 1000]
    assert {line["big"] for line in edited} == {9007199254740993}
    with broken.flow.store() as store:
        entry = store.replays.entries(number, 1)[0]
    assert json.loads(entry.original)["data"]["n"] < 1000 <= json.loads(entry.edited)["n"]


def test_an_edit_that_fails_again_leaves_the_original_in_the_dead_letter(broken):
    run = broken.flow.worker()
    broken.service.fails = lambda number, tries: Answer(status=422)
    before = {each.id: each.event for each in broken.flow.letters()}
    assert wait_until_over(broken.flow, replay(broken.flow, edit=".n += 1000")).failed == 5
    assert run.drain() == 0, run.text()
    assert {each.id: each.event for each in broken.flow.letters()} == before


POINTS = (
    "after_effects_before_settle",
    "after_settle_before_checkpoint",
    "after_checkpoint_before_acknowledge",
)


@matrix("point, nth", product(POINTS, [1, 2]), usual=zip(POINTS, [2, 1, 2], strict=True))
def test_a_kill_in_mid_replay_loses_nothing_and_settles_each_once(broken, point, nth):
    mend(broken)
    number = replay(broken.flow)
    killed = broken.flow.worker(fail_point=f"{point}:{nth}")
    assert killed.wait() == -9, killed.text()
    again = broken.flow.worker()
    again.wait_until("running")
    found = wait_until_over(broken.flow, number)
    assert again.drain() == 0, again.text()
    assert (found.done, found.failed) == (5, 0)
    assert broken.flow.letters() == []
    assert broken.flow.totals() == {"calling": (50, 5, 0)}
    assert sorted(broken.numbers()) == list(range(50))
    # A call that was in flight at the kill is made again, as any other.
    assert set(broken.service.tries) == set(range(0, 50, 10))
    order = list(dict.fromkeys(n for key, n in broken.service.done if key == "k0"))
    assert order == [0, 10, 20, 30, 40]


LOOKED = '{{ .steps.look.status }} {{ .steps.look.headers["content-type"] }}'


@pytest.fixture
def looking(calling):
    """A flow that looks something up and then calls; the call is refused."""

    def write_flow(last="call"):
        url = calling.service.receiver.url
        calling.flow.write(
            modules=[kafka_source(calling.kafka, calling.topic), file_sink(calling.flow.folder)],
            pipelines={
                "calling": pipeline(
                    "orders",
                    step("look", "http_call", {"method": "GET", "url": f"{url}/look"}),
                    step(
                        last,
                        "http_call",
                        {
                            "method": "POST",
                            "url": f"{url}/do",
                            "body_from": "steps.look.output",
                            "headers": {"x-looked": LOOKED},
                        },
                    ),
                    publish("out", data_from="steps.look.output"),
                )
            },
        )

    def answer(seen):
        if seen.path == "/look":
            return as_json({"key": "k", "n": 9007199254740993})
        return answer_call(seen)

    answer_call = calling.service.receiver.answer
    calling.service.receiver.answer = answer
    calling.write_flow = write_flow
    write_flow()
    calling.service.fails = lambda number, tries: Answer(status=422)
    calling.send(range(3))
    calling.flow.catch_up()
    calling.service.fails = lambda number, tries: False
    assert {each.step for each in calling.flow.letters()} == {"call"}
    calling.service.receiver.seen.clear()
    return calling


def test_a_replay_can_go_on_at_the_step_that_failed_with_the_outputs_so_far(looking):
    run = looking.flow.worker()
    found = wait_until_over(looking.flow, replay(looking.flow, from_step=True))
    assert run.drain() == 0, run.text()
    assert found.done == 3
    assert [seen.path for seen in looking.service.receiver.seen] == ["/do"] * 3
    looked = {seen.headers["x-looked"] for seen in looking.service.receiver.seen}
    assert looked == {"200 application/json"}
    assert {line["data"]["n"] for line in looking.flow.lines()} == {9007199254740993}


def test_a_replay_at_a_step_that_the_flow_no_longer_has_says_so(looking):
    looking.write_flow(last="renamed")
    run = looking.flow.worker()
    found = wait_until_over(looking.flow, replay(looking.flow, from_step=True))
    assert found.failed == 3
    assert {each.error_code for each in looking.flow.letters()} == {"step_gone"}
    assert wait_until_over(looking.flow, replay(looking.flow)).done == 3
    assert run.drain() == 0, run.text()


def test_bytes_that_did_not_decode_fail_again_until_they_are_edited(calling):
    write(calling.kafka, calling.topic, b'\xef\xbb\xbf{"n": 7, "key": "k"} ', b"torn{")
    calling.flow.catch_up()
    before = calling.flow.letters()
    assert [each.error_code for each in before] == ["data_not_json"] * 2
    run = calling.flow.worker()
    assert wait_until_over(calling.flow, replay(calling.flow)).failed == 2
    after = calling.flow.letters()
    assert [each.wire for each in after] == [each.wire for each in before]
    assert [each.error_code for each in after] == ["data_not_json"] * 2
    edit = 'ltrimstr("\ufeff") | (fromjson? // {n: 8, key: "mended"})'
    assert wait_until_over(calling.flow, replay(calling.flow, edit=edit)).done == 2
    assert run.drain() == 0, run.text()
    assert sorted(calling.service.done) == [("k", 7), ("mended", 8)]
    assert calling.flow.letters() == []


def test_what_the_pipeline_no_longer_takes_or_allows_is_returned_with_the_reason(broken):
    mend(broken)
    broken.write_flow(trigger={"when": ".data.n < 20"})
    run = broken.flow.worker()
    number = replay(broken.flow)
    found = wait_until_over(broken.flow, number)
    assert run.drain() == 0, run.text()
    assert (found.done, found.returned) == (2, 3)
    assert {each.status for each in broken.flow.letters()} == {"waiting"}
    with broken.flow.store() as store:
        reasons = {each.error_code for each in store.replays.entries(number, 10)}
    assert reasons == {"", "not_triggered"}


def test_an_edit_that_does_not_fit_an_event_replays_nothing(broken):
    with pytest.raises(FlowFileError, match="the edit fails for dead letter"):
        replay(broken.flow, edit='if .n == 0 then error("no") else . end')
    assert {each.status for each in broken.flow.letters()} == {"waiting"}
    with broken.flow.store() as store:
        assert store.replays.newest("flow", 1)[0].status == "cancelled"


def test_the_command_follows_a_worker_that_runs_and_live_events_go_on(alone):
    mend(alone)
    run = alone.flow.start()
    run.wait_until_started()
    alone.send(range(200, 220))
    ended = alone.flow.penstock("dlq", "replay", "--all", str(alone.flow.path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "Replay 1 (done): 5 done, 0 failed again, of 5.\n"
    wait_for(lambda: len(alone.numbers()) == 70, "all events")
    assert run.stop() == 0, run.text()
    order = [n for key, n in alone.service.done if key == "k0"]
    assert [n for n in order if n < 200] == [0, 10, 20, 30, 40]
    assert [n for n in order if n >= 200] == [200, 205, 210, 215]
    assert alone.flow.totals() == {"calling": (70, 5, 0)}


def test_a_flow_that_was_killed_is_replayed_in_place_once_its_lease_is_over(broken):
    mend(broken)
    run = broken.flow.start()
    run.wait_until_started()
    run.kill_all()
    ended = broken.flow.penstock("dlq", "replay", "--all", str(broken.flow.path))
    assert ended.returncode == 0, ended.stderr
    assert broken.flow.letters() == []
    assert broken.service.tries == dict.fromkeys(range(0, 50, 10), 1)
