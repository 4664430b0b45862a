"""sink.file: where lines go, and that a start repeats nothing and loses nothing."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
from pathlib import Path

import pytest

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError, PermanentError, RetryableError
from connectors.file import FileSink
from connectors.file.settings import FileSinkSettings
from tests.connectors.templates import compile_template


def opened(path, state=None, writer="", **settings):
    config = {"path": str(path), "format": "json", **settings}
    sink = FileSink("out", FileSinkSettings.model_validate(config))
    sink.open(SinkOpening(state or {}, writer=writer, compile_template=compile_template))
    return sink


def events(*values, **attributes):
    shared = {"id": [str(n) for n in range(len(values))], "source": "/s", "type": "t", **attributes}
    return Outgoing([json.dumps(v).encode() for v in values], [None] * len(values), lambda: shared)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_delivered_events_are_lines_in_order(tmp_path):
    sink = opened(tmp_path / "deep" / "out.jsonl")
    assert sink.deliver(events(1, 2)) == {}
    assert sink.deliver(events(3)) == {}
    sink.close()
    assert lines(tmp_path / "deep" / "out.jsonl") == [1, 2, 3]


def test_cloudevents_lines_hold_the_envelope_and_a_tombstone_has_no_data(tmp_path):
    sink = opened(tmp_path / "out.jsonl", format="cloudevents_json")
    shared = {"id": ["1", "2"], "source": "/s", "type": "t"}
    assert sink.deliver(Outgoing([b"{}", None], ["k", "k"], lambda: shared)) == {}
    sink.close()
    assert lines(tmp_path / "out.jsonl") == [
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {}},
        {"specversion": "1.0", "id": "2", "source": "/s", "type": "t"},
    ]


def test_an_event_is_one_line_however_its_json_is_laid_out(tmp_path):
    sink = opened(tmp_path / "out.jsonl")
    pretty = Outgoing([b'{\r\n  "a": "x\\ny"\n}', b"2"], [None] * 2, dict)
    assert sink.deliver(pretty) == {}
    sink.close()
    assert lines(tmp_path / "out.jsonl") == [{"a": "x\ny"}, 2]


def test_a_start_cuts_the_file_back_to_what_was_settled(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.deliver(events(1, 2))
    state = sink.settled_state()
    sink.deliver(events(3))
    sink.close()
    again = opened(path, state)
    assert lines(path) == [1, 2]
    assert again.deliver(events(3)) == {}
    again.close()
    assert lines(path) == [1, 2, 3]


def test_a_file_begun_in_an_unsettled_batch_is_gone_after_a_restart(tmp_path):
    template = tmp_path / "{{ .type }}.jsonl"
    sink = opened(template)
    sink.deliver(events(1, type="a"))
    state = sink.settled_state()
    sink.deliver(events(2, type="b"))
    sink.close()
    opened(template, state).close()
    assert lines(tmp_path / "a.jsonl") == [1]
    assert not (tmp_path / "b.jsonl").exists()


def test_the_first_batch_is_undone_when_nothing_was_ever_settled(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("0\n")
    sink = opened(path)
    sink.deliver(events(1))
    sink.close()
    opened(path).close()
    assert lines(path) == [0]


def test_a_file_that_was_there_first_is_appended_to_and_never_cut_below_its_end(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('"mine"\n')
    sink = opened(path)
    sink.deliver(events(1))
    state = sink.settled_state()
    sink.close()
    opened(path, state).close()
    assert lines(path) == ["mine", 1]


def test_the_first_batch_is_undone_though_it_was_to_be_settled_and_never_was(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    stored = sink.settled_state()
    sink.deliver(events(1))
    sink.settled_state()  # on its way to the state store when the worker ends
    sink.close()
    sink = opened(path, stored)
    sink.deliver(events(1))
    sink.close()
    assert lines(path) == [1]


def test_a_lost_state_cuts_nothing_that_was_settled(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.settled_state()
    sink.deliver(events(1))
    sink.settled_state()
    sink.deliver(events(2))
    sink.settled_state()
    sink.close()
    sink = opened(path)
    sink.deliver(events(3))
    sink.close()
    assert lines(path) == [1, 2, 3]


@pytest.mark.parametrize("back", [0, 1, 2, 3, 10, 29])
def test_a_start_with_a_state_of_some_batches_ago_cuts_back_to_that(tmp_path, back):
    template = tmp_path / "{{ .type }}.jsonl"
    sink = opened(template, max_open_files=1, rotate="10B")
    states, contents = [], []
    for n in range(30):
        value = f"{n:08d}"
        assert sink.deliver(events(value, value, type=[f"k{n % 3}", f"k{n % 2}"])) == {}
        states.append(dict(sink.settled_state()))
        contents.append({p.name: p.read_text() for p in tmp_path.glob("*.jsonl")})
    sink.close()
    for _ in range(2):  # a recovery that is repeated does no harm
        opened(template, states[-1 - back], max_open_files=1, rotate="10B").close()
        found = {p.name: p.read_text() for p in tmp_path.glob("*.jsonl")}
        assert found == contents[-1 - back]


def test_a_recovery_may_be_killed_at_every_step(tmp_path, monkeypatch):
    folder, saved = tmp_path / "out", tmp_path / "saved"
    template = folder / "{{ .type }}.jsonl"
    settings = {"max_open_files": 1, "rotate": "10B"}
    sink = opened(template, **settings)
    states, contents = [], []
    for n in range(12):
        value = f"{n:08d}"
        assert sink.deliver(events(value, value, type=[f"k{n % 3}", f"k{n % 2}"])) == {}
        states.append(dict(sink.settled_state()))
        contents.append({p.name: p.read_text() for p in folder.glob("*.jsonl")})
    sink.close()
    shutil.copytree(folder, saved)
    done = False
    for step in range(1, 200):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        left = itertools.count(step, -1)

        def killed(real, left=left):
            def call(*arguments, **options):
                if next(left) == 1:
                    raise KeyboardInterrupt
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "ftruncate")):
                patched.setattr(owner, name, killed(getattr(owner, name)))
            try:
                opened(template, states[5], **settings).close()
                done = True
            except KeyboardInterrupt:
                pass
        opened(template, states[5], **settings).close()
        assert {p.name: p.read_text() for p in folder.glob("*.jsonl")} == contents[5]
        if done:
            break
    assert done
    assert step > 10


def test_files_closed_to_make_room_are_still_cut_back(tmp_path):
    template = tmp_path / "{{ .type }}.jsonl"
    sink = opened(template, max_open_files=2)
    kinds = ["a", "b", "c", "d", "e"]
    sink.deliver(events(*range(5), type=kinds))
    state = sink.settled_state()
    assert len(state) == 3
    sink.deliver(events(*range(10, 15), type=kinds))
    assert len(list(Path("/proc/self/fd").iterdir())) < 40
    sink.close()
    opened(template, state, max_open_files=2).close()
    assert {p.name: lines(p) for p in tmp_path.glob("*.jsonl")} == {
        f"{kind}.jsonl": [n] for n, kind in enumerate(kinds)
    }


def test_a_file_past_its_size_is_rotated_at_the_next_batch(tmp_path):
    path = tmp_path / "out.jsonl"
    (tmp_path / "out.000001.jsonl").write_text("foreign\n")
    sink = opened(path, rotate="10B")
    for batch in (["0123456789"], ["b"], ["0123456789"], ["c"]):
        assert sink.deliver(events(*batch)) == {}
        sink.settled_state()
    sink.close()
    assert (tmp_path / "out.000001.jsonl").read_text() == "foreign\n"
    assert lines(tmp_path / "out.000002.jsonl") == ["0123456789"]
    assert lines(tmp_path / "out.000003.jsonl") == ["b", "0123456789"]
    assert lines(path) == ["c"]


def test_rotations_after_the_last_settled_batch_are_undone(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path, rotate="10B")
    sink.deliver(events("0123456789"))
    state = sink.settled_state()
    for value in ("abcdefghij", "klmnopqrst", "u"):
        sink.deliver(events(value))
    sink.close()
    assert len(list(tmp_path.glob("*.jsonl"))) == 4
    sink = opened(path, state, rotate="10B")
    assert [p.name for p in tmp_path.glob("*.jsonl")] == ["out.jsonl"]
    assert lines(path) == ["0123456789"]
    sink.deliver(events("abcdefghij"))
    sink.close()
    assert lines(tmp_path / "out.000001.jsonl") == ["0123456789"]
    assert lines(path) == ["abcdefghij"]


def test_a_recovery_that_is_cut_short_is_finished_by_the_next(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    sink = opened(path, rotate="10B")
    sink.deliver(events("0123456789"))
    state = sink.settled_state()
    sink.deliver(events("abcdefghij"))
    sink.deliver(events("k"))
    sink.close()
    with monkeypatch.context() as patched:
        patched.setattr("connectors.file.sink.cut_back", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(path, state, rotate="10B")
    opened(path, state, rotate="10B").close()
    assert [p.name for p in tmp_path.glob("*.jsonl")] == ["out.jsonl"]
    assert lines(path) == ["0123456789"]


@pytest.mark.parametrize("damage", ["deleted", "shortened"])
def test_a_file_that_lost_settled_bytes_stops_the_start_with_what_to_do(tmp_path, damage):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.deliver(events(1, 2))
    state = sink.settled_state()
    sink.close()
    path.unlink()
    if damage == "shortened":
        path.write_text("1")
    with pytest.raises(FatalError) as caught:
        opened(path, state)
    assert caught.value.code == "file_gone"
    assert "4 bytes" in caught.value.message
    assert "on_missing: new_file" in caught.value.hint
    sink = opened(path, state, on_missing="new_file")
    assert sink.deliver(events(3)) == {}
    sink.close()


@pytest.mark.parametrize("kind", ["..", "../x", "/etc/x", "", "a//b", "a/../../b", "a\x00b", "./a"])
def test_an_event_can_not_leave_the_folder(tmp_path, kind):
    sink = opened(tmp_path / "safe" / "{{ .type }}")
    failures = sink.deliver(events(1, 2, type=[kind, "fine"]))
    sink.close()
    assert list(failures) == [0]
    assert isinstance(failures[0], PermanentError)
    assert failures[0].code == "file_path"
    visible = [p for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith(".")]
    assert visible == [tmp_path / "safe" / "fine"]


@pytest.mark.parametrize("kind", ["x" * 300, "fine/below"])
def test_a_path_that_the_disk_refuses_fails_its_event_alone(tmp_path, kind):
    sink = opened(tmp_path / "{{ .type }}")
    sink.deliver(events(0, type="fine"))
    failures = sink.deliver(events(1, 2, type=[kind, "fine"]))
    sink.close()
    assert list(failures) == [0]
    assert isinstance(failures[0], PermanentError)
    assert lines(tmp_path / "fine") == [0, 2]


def test_a_path_may_read_the_events_data(tmp_path):
    sink = opened(tmp_path / "{{ .data.shop }}" / "out.jsonl")
    failures = sink.deliver(events({"shop": "a"}, {"shop": "b"}, {"shop": "a", "n": 1}, {}))
    sink.close()
    assert list(failures) == [3]
    assert lines(tmp_path / "a" / "out.jsonl") == [{"shop": "a"}, {"shop": "a", "n": 1}]
    assert lines(tmp_path / "b" / "out.jsonl") == [{"shop": "b"}]


def test_each_writer_has_files_of_its_own(tmp_path):
    path = tmp_path / "orders.jsonl"
    sinks = [opened(path, writer=str(n), rotate="1B") for n in range(2)]
    for turn in range(2):
        for n, sink in enumerate(sinks):
            assert sink.deliver(events([n, turn])) == {}
    for sink in sinks:
        sink.close()
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == [
        "orders.0.000001.jsonl",
        "orders.0.jsonl",
        "orders.1.000001.jsonl",
        "orders.1.jsonl",
    ]
    assert lines(tmp_path / "orders.1.jsonl") == [[1, 1]]


def test_a_second_process_on_the_same_files_is_refused(tmp_path):
    first = opened(tmp_path / "out.jsonl")
    with pytest.raises(FatalError) as caught:
        opened(tmp_path / "out.jsonl")
    assert caught.value.code == "file_in_use"
    first.close()
    opened(tmp_path / "out.jsonl").close()


def test_a_partial_write_is_taken_back_and_the_next_batch_goes_on(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.deliver(events("first"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        failures = sink.deliver(events("x" * 9000, "y"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(failures) == [0, 1]
    assert isinstance(failures[0], FatalError)
    assert lines(path) == ["first"]
    assert sink.deliver(events("second")) == {}
    sink.close()
    assert lines(path) == ["first", "second"]


def test_a_full_disk_is_retryable_and_leaves_the_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.deliver(events(1))
    real = os.write

    def full(fd, content):
        if len(content) > 10:
            return real(fd, content[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        failures = sink.deliver(events("x" * 15))
    assert isinstance(failures[0], RetryableError)
    assert failures[0].code == "file_disk_full"
    assert lines(path) == [1]
    assert sink.deliver(events("x" * 15)) == {}
    sink.close()
    assert lines(path) == [1, "x" * 15]


def test_a_file_that_is_moved_away_while_it_is_written_stops_the_worker(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.deliver(events(1))
    path.rename(tmp_path / "taken.jsonl")
    failures = sink.deliver(events(2))
    sink.close()
    assert isinstance(failures[0], FatalError)
    assert failures[0].code == "file_gone"


def test_a_file_that_something_else_appends_to_stops_the_worker(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path)
    sink.deliver(events(1))
    with path.open("a") as other:
        other.write("mine\n")
    failures = sink.deliver(events(2))
    sink.close()
    assert failures[0].code == "file_shared"


def test_the_flows_folder_may_change_and_the_old_files_are_still_cut_back(tmp_path):
    sink = opened(tmp_path / "old" / "{{ .type }}.jsonl")
    sink.deliver(events(1, type="a"))
    state = sink.settled_state()
    sink.deliver(events(2, 3, type=["a", "b"]))
    sink.close()
    sink = opened(tmp_path / "new" / "{{ .type }}.jsonl", state)
    sink.deliver(events(2, type="a"))
    sink.close()
    assert lines(tmp_path / "old" / "a.jsonl") == [1]
    assert not (tmp_path / "old" / "b.jsonl").exists()
    assert lines(tmp_path / "new" / "a.jsonl") == [2]


def test_preflight_says_whether_the_folder_can_be_written_to(tmp_path):
    def checks(path):
        sink = FileSink("out", FileSinkSettings(path=str(path)))
        return [(check.name, check.ok) for check in sink.preflight([])]

    assert checks(tmp_path / "new" / "out.jsonl") == [("folder", True)]
    (tmp_path / "file").write_text("")
    assert checks(tmp_path / "file" / "out.jsonl") == [("folder", False)]
    (tmp_path / "folder").mkdir()
    assert checks(tmp_path / "folder") == [("folder", True), ("file", False)]
    assert not (tmp_path / "new").exists()


def test_the_journal_does_not_grow_with_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr("connectors.file.sink._JOURNAL_ENTRIES", 20)
    monkeypatch.setattr("connectors.file.sink._NOT_YET_DURABLE", 5)
    template = tmp_path / "{{ .type }}.jsonl"
    sink = opened(template, max_open_files=1)
    for n in range(200):
        assert sink.deliver(events(n, type=f"k{n % 7}")) == {}
        state = sink.settled_state()
    sink.deliver(events("unsettled", type="k1"))
    sink.close()
    assert (tmp_path / ".penstock.out.journal").stat().st_size < 5000
    opened(template, state, max_open_files=1).close()
    assert sum(len(lines(p)) for p in tmp_path.glob("*.jsonl")) == 200


def lost_writer(path, **settings):
    """A writer that settles 1 and 2, and dies when it has written 3; its last settled state."""
    sink = opened(path, writer="1", **settings)
    sink.deliver(events(1, 2))
    state = sink.settled_state()
    sink.deliver(events(3))
    sink.close()
    return state


def another(path):
    return FileSink("out", FileSinkSettings.model_validate({"path": str(path), "format": "json"}))


@pytest.mark.parametrize("settings", [{}, {"rotate": "1B"}])
def test_a_lost_writers_files_are_cut_back_by_a_sink_that_writes_elsewhere(tmp_path, settings):
    path = tmp_path / "out.jsonl"
    state = lost_writer(path, **settings)
    for _ in range(2):
        another(path).undo_unsettled(state)
        assert [p.name for p in tmp_path.glob("*.jsonl")] == ["out.1.jsonl"]
        assert lines(tmp_path / "out.1.jsonl") == [1, 2]


def test_a_writer_of_a_label_that_was_cut_back_goes_on_behind_it(tmp_path):
    path = tmp_path / "out.jsonl"
    another(path).undo_unsettled(lost_writer(path))
    sink = opened(path, writer="1")
    sink.deliver(events(4))
    sink.close()
    assert lines(tmp_path / "out.1.jsonl") == [1, 2, 4]


def test_what_a_lost_writer_wrote_before_its_first_settlement_goes(tmp_path):
    path = tmp_path / "out.jsonl"
    sink = opened(path, writer="1")
    begun = sink.settled_state()
    sink.deliver(events(1))
    sink.close()
    another(path).undo_unsettled(begun)
    assert not (tmp_path / "out.1.jsonl").exists()


def test_a_lost_writers_file_that_was_moved_away_is_not_missed(tmp_path):
    path = tmp_path / "out.jsonl"
    state = lost_writer(path)
    (tmp_path / "out.1.jsonl").rename(tmp_path / "kept.jsonl")
    another(path).undo_unsettled(state)
    assert lines(tmp_path / "kept.jsonl") == [1, 2, 3]
    shutil.rmtree(tmp_path)
    another(path).undo_unsettled(state)
    assert not tmp_path.exists()


def test_files_that_others_have_gone_on_with_are_left_as_they_are(tmp_path):
    path = tmp_path / "out.jsonl"
    state = lost_writer(path)
    another(path).undo_unsettled(state)
    later = opened(path, writer="1")
    later.deliver(events(4))
    later.settled_state()
    with pytest.raises(FatalError) as caught:
        another(path).undo_unsettled(state)
    assert caught.value.code == "file_in_use"
    later.close()
    another(path).undo_unsettled(state)
    assert lines(tmp_path / "out.1.jsonl") == [1, 2, 4]
