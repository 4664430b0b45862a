"""sink.s3 on moto's server: names, contents, crashes at any point, and a bucket that is refused or away."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter

import pytest
import zstandard

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, RetryableError
from connectors.s3 import SINK_S3
from connectors.s3.bucket import Bucket
from connectors.testing import wait_until
from tests.connectors.templates import compile_template


def events(numbers, **attributes):
    chosen = list(numbers)
    shared = {"id": [str(n) for n in chosen], "source": "/s", "type": "t", **attributes}
    values = [json.dumps({"n": n}).encode() for n in chosen]
    return Outgoing(values, [None] * len(chosen), lambda: shared)


@pytest.fixture
def opened(s3, bucket):
    sinks = []

    def open_sink(state=None, **config):
        settings = {"key": "out/events.jsonl", "format": "json", **config}
        made = SINK_S3.sink("out", SINK_S3.settings(**s3.config(bucket, **settings)))
        sinks.append(made)
        made.open(SinkOpening(state or {}, compile_template=compile_template))
        return made

    yield open_sink
    for sink in sinks:
        sink.close()


def crash(sink):
    """Leave it as a killed process does: nothing more is written."""
    with sink._turn:
        sink._objects = {}
    sink.close()


def lines(s3, bucket, prefix="out/"):
    found = s3.objects(bucket, prefix)
    return [json.loads(line)["n"] for text in found.values() for line in text.splitlines()]


def test_an_event_goes_to_an_object_of_its_own_key(s3, bucket, opened):
    sink = opened(key="{{ .type }}/day={{ .time }}/events.jsonl", format="cloudevents_json")
    failures = sink.deliver(
        events(range(4), type=["a", "b", "a", "a/.."], time=["1", "2", "1", "1"])
    )
    assert (list(failures), failures[3].code) == ([3], "s3_key")
    sink.close()
    found = s3.objects(bucket)
    kept = {key.rpartition("/")[0]: text for key, text in found.items() if "penstock" not in key}
    assert {folder: len(text.splitlines()) for folder, text in kept.items()} == {
        "a/day=1": 2,
        "b/day=2": 1,
    }
    assert json.loads(kept["b/day=2"])["type"] == "b"


@pytest.mark.parametrize(
    ("compression", "how"),
    [
        ("none", (".jsonl", bytes)),
        ("gzip", (".jsonl.gz", gzip.decompress)),
        ("zstd", (".jsonl.zst", zstandard.decompress)),
    ],
)
def test_objects_are_compressed_as_their_name_says(s3, bucket, opened, compression, how):
    ending, read = how
    sink = opened(compression=compression, roll={"events": 5})
    for start in range(0, 20, 5):
        assert sink.deliver(events(range(start, start + 5))) == {}
    found = s3.objects(bucket, "out/")
    assert [
        json.loads(line)["n"] for text in found.values() for line in read(text).splitlines()
    ] == (list(range(20)))
    assert len(found) == 4
    assert all(key.endswith(ending) for key in found)


def test_an_object_larger_than_a_part_is_whole(s3, bucket, opened):
    sink = opened()
    value = json.dumps({"n": "x" * 1_000_000}).encode()
    assert sink.deliver(Outgoing([value] * 20, [None] * 20, lambda: {"id": "1"})) == {}
    sink.close()
    (content,) = s3.objects(bucket, "out/").values()
    assert content == (value + b"\n") * 20


def test_an_object_is_written_when_its_first_event_is_old_though_nothing_else_comes(
    s3, bucket, opened
):
    sink = opened(roll={"age": "1s"})
    sink.deliver(events(range(3)))
    assert lines(s3, bucket) == []
    wait_until(lambda: lines(s3, bucket) == [0, 1, 2], "the object is there")


def test_a_clean_stop_leaves_whole_objects_that_no_later_start_touches(s3, bucket, opened):
    sink = opened()
    sink.settled_state()
    sink.deliver(events(range(3)))
    state = sink.settled_state()
    sink.close()
    before = s3.objects(bucket, "out/")
    assert len(before) == 1
    second = opened(state)
    second.deliver(events(range(3, 5)))
    second.settled_state()
    second.close()
    after = s3.objects(bucket, "out/")
    assert {key: after[key] for key in before} == before
    assert lines(s3, bucket) == list(range(5))


def test_what_was_written_and_not_settled_is_gone_before_it_comes_again(s3, bucket, opened):
    sink = opened(roll={"events": 4})
    sink.deliver(events(range(2)))
    state = sink.settled_state()
    sink.deliver(events(range(2, 9)))
    sink.deliver(events(range(9, 14)))
    assert lines(s3, bucket) == list(range(14))
    crash(sink)
    second = opened(state, roll={"events": 4})
    assert lines(s3, bucket) == []
    second.deliver(events(range(2, 14)))
    assert lines(s3, bucket) == list(range(14))


def test_crashes_at_random_leave_every_event_in_one_object(s3, bucket, opened):
    chance = random.Random(20261121)
    config = {"key": "out/{{ .type }}.jsonl", "roll": {"events": 7}}
    settled, position = {}, 0
    for _ in range(12):
        sink = opened(settled, **config)
        if not settled:
            settled = sink.settled_state()
        at = position
        for _ in range(chance.randrange(6)):
            numbers = range(at, at + chance.randrange(1, 9))
            assert sink.deliver(events(numbers, type=[f"k{n % 3}" for n in numbers])) == {}
            at = numbers.stop
            state = sink.settled_state()
            if chance.random() < 0.7:
                settled, position = state, at
        if chance.random() < 0.3:
            # What the timer writes, it may have written before the crash.
            with sink._turn:
                for one in list(sink._objects.values()):
                    assert sink._written(one)
        crash(sink)
    last = opened(settled, **config)
    last.deliver(events(range(position, 200), type=[f"k{n % 3}" for n in range(position, 200)]))
    last.close()
    assert Counter(lines(s3, bucket)) == Counter(range(200))


def test_a_recovery_may_be_killed_at_every_step(s3, bucket, opened, monkeypatch):
    sink = opened(roll={"events": 4})
    sink.deliver(events(range(2)))
    state = sink.settled_state()
    sink.deliver(events(range(2, 9)))
    sink.deliver(events(range(9, 11)))
    crash(sink)
    real = Bucket.delete

    class Killed(BaseException):
        pass

    def delete_some(self, keys):
        chosen = list(keys)
        real(self, chosen[:count])
        if len(chosen) > count:
            raise Killed

    monkeypatch.setattr(Bucket, "delete", delete_some)
    found, count = None, 0
    while found is None:
        try:
            found = opened(state, roll={"events": 4})
        except Killed:
            count += 1
    assert count > 1
    found.deliver(events(range(2, 11)))
    found.close()
    assert lines(s3, bucket) == list(range(11))


def test_what_a_lost_writer_left_is_undone_and_its_settled_events_are_written(s3, bucket, opened):
    sink = opened()
    sink.deliver(events(range(5)))
    state = sink.settled_state()
    sink.deliver(events(range(5, 9)))
    crash(sink)
    other = SINK_S3.sink("out", sink._settings)
    for _ in range(2):
        other.undo_unsettled(state)
        assert lines(s3, bucket) == list(range(5))
    assert s3.objects(bucket, "_penstock/") == {}


def test_a_process_that_was_taken_over_from_replaces_no_object(s3, bucket, opened, monkeypatch):
    old = opened()
    old.deliver(events(range(3)))
    state = old.settled_state()
    monkeypatch.setattr("connectors.s3.sink.time.time", lambda: 4e9)
    new = opened(state)
    new.deliver(events(range(3, 6)))
    new.close()
    old.close()
    assert lines(s3, bucket) == list(range(6))


def test_staged_pieces_are_deleted_in_time_and_the_rest_at_the_next_start(s3, bucket, opened):
    sink = opened(roll={"events": 10})
    for n in range(260):
        sink.deliver(events([n]))
        state = sink.settled_state()
    assert len(s3.objects(bucket, "_penstock/")) < 200
    sink.close()
    opened(state).close()
    assert len(s3.objects(bucket, "_penstock/")) <= 1
    assert lines(s3, bucket) == list(range(260))


def test_a_bucket_that_is_not_there_is_refused_with_what_to_do(s3, bucket):
    settings = SINK_S3.settings(**s3.config("nobodys-bucket", key="out/e.jsonl"))
    sink = SINK_S3.sink("out", settings)
    (check,) = sink.preflight([])
    assert (check.ok, check.unreachable) == (False, False)
    assert "Create the bucket" in check.hint
    with pytest.raises(FatalError) as caught:
        sink.open(SinkOpening({}))
    assert (caught.value.code, caught.value.unreachable) == ("s3_refused", False)


def test_an_s3_that_is_away_is_said_to_be_and_events_wait_for_it(s3, bucket, proxies):
    proxy = proxies(f"127.0.0.1:{s3.port}")
    config = s3.config(bucket, key="out/e.jsonl", format="json", timeout="1s")
    config["endpoint"] = f"http://{proxy.address}"
    sink = SINK_S3.sink("out", SINK_S3.settings(**config))
    proxy.cut()
    (check,) = sink.preflight([])
    assert (check.ok, check.unreachable) == (False, True)
    with pytest.raises(FatalError) as caught:
        sink.open(SinkOpening({}))
    assert caught.value.unreachable
    proxy.restore()
    sink.open(SinkOpening({}))
    proxy.cut()
    error = sink.deliver(events(range(2)))[0]
    assert (type(error), error.code) == (RetryableError, "s3_unavailable")
    proxy.restore()
    assert sink.deliver(events(range(2))) == {}
    sink.close()
    assert lines(s3, bucket) == [0, 1]


def test_pieces_that_somebody_deleted_are_missed_and_not_passed_over(s3, bucket, opened):
    sink = opened()
    sink.deliver(events(range(5)))
    state = sink.settled_state()
    crash(sink)
    with s3.client() as client:
        for key in s3.objects(bucket, "_penstock/"):
            client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(FatalError) as caught:
        opened(state)
    assert caught.value.code == "s3_staging"
