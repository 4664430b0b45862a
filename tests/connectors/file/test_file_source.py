"""source.file: lines once each, through rotation, truncation, restarts; formats and what is broken."""

from __future__ import annotations

import gzip
import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from pydantic import ValidationError

from connectors.contracts import EndOfSource, Opening, Shard
from connectors.errors import FatalError
from connectors.file import SOURCE_FILE
from connectors.file.places import Place, decode, encode, fingerprint
from connectors.testing import SourceConformance, wait_until
from flows.runtime.sinks import key_maker


def settings(path, **config):
    config = {"follow": True, "poll_interval": "10ms", **config}
    return SOURCE_FILE.settings.model_validate({"path": str(path), **config})


@contextmanager
def reading(path, positions=None, *, shard=None, until_caught_up=False, **config):
    opening = Opening(
        shard or Shard(), positions or {}, until_caught_up=until_caught_up, compile_key=key_maker
    )
    reader = SOURCE_FILE.source("drop", settings(path, **config)).open(opening)
    try:
        yield reader
    finally:
        reader.close()


class Got:
    """What was read: events' data, and the checkpoint behind them."""

    def __init__(self):
        self.data, self.events, self.after, self.errors, self.wires = [], [], {}, [], []

    def take(self, batch):
        if batch is None:
            return
        self.data += batch.column("data")
        self.events += [batch.event(k) for k in range(batch.size)]
        self.errors += [(k, error.code) for k, error in sorted(batch.errors.items())]
        self.wires += batch.column("wire")
        self.after |= batch.after


def take(reader, count, limit=1000):
    got = Got()
    wait_until(
        lambda: got.take(reader.poll(limit, 0.05)) or len(got.events) >= count,
        f"{count} events",
    )
    assert len(got.events) == count
    return got


def all_of(path, positions=None, **config):
    """Read to the end; the source ends by itself."""
    got = Got()
    with reading(path, positions, follow=False, **config) as reader:
        try:
            while True:
                got.take(reader.poll(1000, 5))
        except EndOfSource:
            return got


def lines(first, last):
    return "".join(json.dumps({"n": n}) + "\n" for n in range(first, last))


def numbers(got):
    return [each["n"] for each in got.data]


class FileUnderTest:
    def __init__(self, folder):
        self.path = folder / "in.jsonl"
        self.path.touch()
        self.source = SOURCE_FILE.source("drop", settings(self.path, key=".k"))
        self.opening = {"compile_key": key_maker}
        self.emitted = 0

    def emit(self, count):
        with self.path.open("a") as file:
            for n in range(self.emitted, self.emitted + count):
                file.write(json.dumps({"n": n, "k": f"k{n % 3}"}) + "\n")
        self.emitted += count

    def numbers(self, batch):
        return [data["n"] for data in batch.column("data")]

    def acknowledged(self):
        return None


class TestFileSource(SourceConformance):
    @pytest.fixture
    def subject(self, tmp_path):
        return FileUnderTest(tmp_path)


def test_a_line_that_is_still_being_written_is_not_taken(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n":0}\n{"n":')
    with reading(path) as reader:
        assert numbers(take(reader, 1)) == [0]
        assert reader.poll(10, 0.1) is None
        with path.open("a") as file:
            file.write("1}\n")
        assert numbers(take(reader, 1)) == [1]


def test_the_end_of_a_file_that_is_not_followed_ends_its_last_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n":0}\r\n\n  \n{"n":1}')
    got = all_of(tmp_path / "*.jsonl")
    assert numbers(got) == [0, 1]
    assert [event.extensions["line"] for event in got.events] == [1, 4]
    assert numbers(all_of(tmp_path / "*.jsonl", got.after)) == []


def test_a_file_that_is_renamed_is_read_to_its_end_and_the_new_one_too(tmp_path):
    path = tmp_path / "app.log"
    path.write_text(lines(0, 3))
    with reading(path) as reader:
        first = take(reader, 3)
        with path.open("a") as writer:
            path.rename(tmp_path / "app.log.1")
            writer.write(lines(3, 5))
        path.write_text(lines(5, 7))
        got = take(reader, 4)
    assert sorted(numbers(got)) == [3, 4, 5, 6]
    assert len({event.partition for event in [*first.events, *got.events]}) == 2


def test_a_rotation_while_stopped_repeats_nothing_and_misses_nothing(tmp_path):
    path = tmp_path / "app.log"
    path.write_text(lines(0, 3))
    with reading(tmp_path / "app.log*") as reader:
        after = take(reader, 3).after
    with path.open("a") as writer:
        writer.write(lines(3, 4))
    path.rename(tmp_path / "app.log.1")
    path.write_text(lines(4, 6))
    with reading(tmp_path / "app.log*", after) as reader:
        assert sorted(numbers(take(reader, 3))) == [3, 4, 5]


def test_a_file_that_is_cut_off_is_read_anew_and_told(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(0, 5))
    with reading(path) as reader:
        first = take(reader, 5)
        path.write_text(lines(5, 7))  # in place, as copytruncate leaves it
        got = take(reader, 2)
    assert numbers(got) == [5, 6]
    assert {event.partition for event in got.events} == {f"{first.events[0].partition}~1"}
    after = first.after | got.after
    with path.open("a") as file:
        file.write(lines(7, 8))
    with reading(path, after) as reader:
        assert numbers(take(reader, 1)) == [7]


def test_other_content_in_the_place_of_a_file_is_not_taken_for_it(tmp_path):
    """As after a restart where an inode was given again, or a file was rewritten and is longer now."""
    path = tmp_path / "a.jsonl"
    path.write_text(lines(0, 2))
    with reading(path) as reader:
        after = take(reader, 2).after
    path.write_text(lines(100, 105))
    with reading(path, after) as reader:
        got = take(reader, 5)
    assert numbers(got) == list(range(100, 105))
    assert len({event.id for event in got.events}) == 5


def test_a_files_device_may_have_another_number_after_a_restart(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(0, 3))
    with reading(path) as reader:
        ((partition, position),) = take(reader, 3).after.items()
    moved = {f"ffff-{partition.partition('-')[2]}": position}
    with path.open("a") as file:
        file.write(lines(3, 4))
    with reading(path, moved) as reader:
        assert numbers(take(reader, 1)) == [3]


def test_events_of_a_file_have_the_same_ids_and_times_when_they_come_again(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(0, 3))

    def told(positions):
        with reading(path, positions) as reader:
            got = take(reader, 3)
        return [(event.id, event.time, event.subject) for event in got.events], got

    first, got = told({})
    ((partition, position),) = got.after.items()
    begin = Place(0, 0, fingerprint(b"", 0), decode(position).seen_ms)
    os.utime(path, (1, 1))
    again, got = told({})
    assert [each[0] for each in first] == [each[0] for each in again]
    from_start, _ = told({partition: encode(begin)})
    assert from_start == first
    assert got.events[0].subject == str(path)


def test_files_that_come_and_go_and_are_many(tmp_path):
    for n in range(600):
        (tmp_path / f"{n:04}.jsonl").write_text(lines(n, n + 1))
    with reading(tmp_path / "*.jsonl") as reader:
        assert sorted(numbers(take(reader, 600))) == list(range(600))
        assert len(list(Path("/proc/self/fd").iterdir())) < 400
        for n in range(0, 300, 2):
            (tmp_path / f"{n:04}.jsonl").unlink()
        for n in range(1, 300, 2):
            with (tmp_path / f"{n:04}.jsonl").open("a") as file:
                file.write(lines(1000 + n, 1001 + n))
        assert sorted(numbers(take(reader, 150))) == [1000 + n for n in range(1, 300, 2)]


def test_workers_share_the_files_out(tmp_path):
    for n in range(20):
        (tmp_path / f"{n}.jsonl").write_text(lines(n * 10, n * 10 + 5))
    shares = [all_of(tmp_path / "*.jsonl", shard=Shard(index, 3)) for index in range(3)]
    assert sorted(n for share in shares for n in numbers(share)) == sorted(
        n * 10 + k for n in range(20) for k in range(5)
    )
    assert sum(bool(share.events) for share in shares) > 1


def test_a_start_at_the_end_takes_only_what_comes_and_new_files_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines(0, 5))
    with reading(tmp_path / "*.jsonl", start="end") as reader:
        begin = reader.poll(10, 5)
        assert begin.size == 0
        with path.open("a") as file:
            file.write(lines(5, 6))
        (tmp_path / "b.jsonl").write_text(lines(6, 8))
        assert sorted(numbers(take(reader, 3))) == [5, 6, 7]
    with reading(tmp_path / "*.jsonl", begin.after, start="end") as reader:
        assert sorted(numbers(take(reader, 3))) == [5, 6, 7]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_compressed_files_are_read_and_resumed_in_the_middle(tmp_path, kind):
    packed = gzip.compress if kind == "gz" else zstandard.ZstdCompressor().compress
    text = lines(0, 50_000).encode()
    (tmp_path / f"a.jsonl.{kind}").write_bytes(packed(text[:100_000]) + packed(text[100_000:]))
    with reading(tmp_path / f"*.{kind}") as reader:
        got = Got()
        while len(got.events) < 1500:
            got.take(reader.poll(500, 5))
    rest = all_of(tmp_path / f"*.{kind}", got.after)
    assert numbers(got) + numbers(rest) == list(range(50_000))


def test_a_compressed_file_that_is_cut_off_gives_what_is_whole_and_says_so(tmp_path):
    whole = gzip.compress(lines(0, 2000).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with reading(path) as reader:
        got = Got()
        wait_until(
            lambda: got.take(reader.poll(1000, 0.05)) or "in the middle" in reader.status(),
            "that it is told",
        )
        path.write_bytes(whole)
        wait_until(
            lambda: got.take(reader.poll(1000, 0.05)) or len(got.events) == 2000, "the rest of it"
        )
        assert reader.status() == ""
    assert numbers(got) == list(range(2000))


def test_csv_rows_are_objects_named_by_the_header_also_after_a_restart(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        '\ufeffid,name\r\n1,"a ""b"", c"\r\n2,"two\nlines"\r\n3,x,y\r\n4,ä\r\n', "utf-8"
    )
    got = all_of(path, format="csv")
    rows = [{"id": "1", "name": 'a "b", c'}, {"id": "2", "name": "two\nlines"}, None]
    assert got.data == [*rows, {"id": "4", "name": "ä"}]
    assert got.errors == [(2, "csv_fields")]
    assert [event.extensions["line"] for event in got.events] == [2, 3, 5, 6]
    middle = {got.events[0].partition: got.events[2].position}
    assert all_of(path, middle, format="csv").data == [{"id": "4", "name": "ä"}]


def test_csv_without_a_header_and_with_other_signs(tmp_path):
    (tmp_path / "a.csv").write_text("1;'a;b'\n2;'open\n")
    config = {"header": False, "columns": ["id", "name"], "delimiter": ";", "quote": "'"}
    got = all_of(tmp_path / "a.csv", format="csv", csv=config)
    assert got.data == [{"id": "1", "name": "a;b"}, {"id": "2", "name": "open"}]


def test_text_and_other_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("grüß\n\ngott\n".encode("latin-1"))
    assert all_of(tmp_path / "a.txt", format="text", encoding="latin-1").data == [
        "grüß",
        "",
        "gott",
    ]
    broken = all_of(tmp_path / "a.txt", format="text")
    assert broken.data == [None, "", "gott"]
    assert broken.errors == [(0, "file_encoding")]
    (tmp_path / "b.jsonl").write_bytes('{"n":"ä"}\n'.encode("cp1252"))
    assert all_of(tmp_path / "b.jsonl", encoding="cp1252").data == [{"n": "ä"}]


def test_cloudevents_keep_their_attributes(tmp_path):
    event = {"specversion": "1.0", "id": "7", "source": "/s", "type": "t", "partitionkey": "k"}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**event, "data": {"n": 1}}) + '\n{"id": 1}\nnot json\n')
    got = all_of(path, format="cloudevents_json")
    assert (got.events[0].id, got.events[0].key, got.data[0]) == ("7", "k", {"n": 1})
    assert got.events[0].extensions == {"partitionkey": "k"}
    assert got.errors == [(1, "cloudevents_version"), (2, "cloudevents_not_json")]
    assert len({event.id for event in got.events}) == 3
    assert got.events[2].extensions == {"line": 3}


@pytest.mark.parametrize("content", [b"not json", b"\xff\xfe\x00", b'"' + b"x" * 10_000_000])
def test_a_broken_line_fails_alone_with_its_bytes(tmp_path, content):
    (tmp_path / "a.jsonl").write_bytes(b'{"n":0}\n' + content + b'\n{"n":1}\n')
    got = all_of(tmp_path / "a.jsonl")
    assert [each and each["n"] for each in got.data] == [0, None, 1]
    assert [code for _, code in got.errors] == ["data_not_json"]
    assert content in got.wires


def test_a_key_that_can_not_be_made_fails_its_event_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"k":{"a":1}}\n{"k":3}\n')
    with reading(tmp_path / "a.jsonl", key=".k.a") as reader:
        batch = None
        while batch is None or not batch.size:
            batch = reader.poll(10, 5)
        assert batch.column("key") == ["1", None]
        assert list(batch.errors) == [1]


def test_a_file_that_can_not_be_read_stops_a_run_that_would_end_without_it(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text(lines(0, 1))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("connectors.file.reader.Content", refuse)
    with pytest.raises(FatalError, match="can't be read: Permission denied"):
        all_of(tmp_path / "a.jsonl")
    with reading(tmp_path / "a.jsonl") as reader:
        wait_until(lambda: "Permission denied" in reader.status(), "that it is told")
        monkeypatch.undo()
        assert numbers(take(reader, 1)) == [0]
        assert reader.status() == ""


def test_no_file_at_all_is_an_end_and_a_warning(tmp_path):
    assert all_of(tmp_path / "*.jsonl").events == []
    (check,) = SOURCE_FILE.source("drop", settings(tmp_path / "*.x")).preflight()
    assert (check.ok, check.severity) == (False, "warning")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"start": "end", "follow": False}, "follow: true"),
        ({"encoding": "utf-16"}, "ASCII's line feed"),
        ({"encoding": "no-such"}, "an encoding that Python knows"),
        ({"csv": {"header": False}}, "columns, since there is no header"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(config, expected):
    with pytest.raises(ValidationError, match=expected):
        settings("a.jsonl", **config)
