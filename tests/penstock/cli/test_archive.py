"""`penstock archive`: what there is, what is missing, and whether it is whole."""

from __future__ import annotations

import json
import time

import pytest

from flows.state.store import open_store
from penstock.cli.app import main
from tests.flows.archive.archiving import Archived, events


@pytest.fixture
def archived(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    store = open_store("sqlite:///penstock.db")
    made = Archived(store, store.acquire_lease("shop", "orders/0", "me", 60.0))
    made.commits = 10
    yield made
    store.close()


def run(capsys, *arguments):
    code = main(["archive", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_list_tells_times_numbers_and_gaps_of_each_source(archived, capsys):
    archived.add(events(10, 11, 12), events(60))
    archived.add(events(5), source="other")
    archived.damage(archived.ids()[1])
    assert run(capsys, "verify")[0] == 1
    code, out, _ = run(capsys, "list")
    rows = {line.split()[1]: line.split() for line in out.splitlines() if line.startswith("shop")}
    assert code == 0
    assert rows["orders"][2:5] == ["1970-01-01T00:00:10.000Z", "1970-01-01T00:01:00.000Z", "4"]
    assert rows["orders"][-1] == "1"
    assert rows["other"][-1] == "-"
    assert "1970-01-01T00:01:00.000Z to 1970-01-01T00:01:00.001Z: chunk 2 with 1 events is" in out
    _, out, _ = run(capsys, "list", "--source", "orders", "-o", "json")
    (row,) = json.loads(out)
    assert (row["events"], row["chunks"], len(row["gaps"])) == (4, 2, 1)


def test_nothing_archived_is_said(archived, capsys):
    archived.add()
    assert "Nothing has been archived" in run(capsys, "list")[1]
    assert run(capsys, "verify", "-o", "json")[:2] == (0, "[]\n")


def test_a_source_without_an_archive_is_an_error_that_names_those_there_are(archived, capsys):
    archived.add(events(1))
    code, _, err = run(capsys, "list", "--source", "order")
    assert code == 2
    assert "archive_unknown" in err or "no archive of order" in err
    assert "orders" in err


@pytest.mark.parametrize("what", ["body", "partitions = '[]'", "first_time = 7", "count = 1"])
def test_verify_names_what_is_damaged_and_ends_with_1(archived, capsys, what):
    archived.add(events(1, 2), events(3, 4), events(5, 6))
    code, out, _ = run(capsys, "verify")
    assert (code, "3 chunks with 6 events whole" in out) == (0, True)
    archived.damage(archived.ids()[1], what)
    code, out, _ = run(capsys, "verify", "-o", "json")
    (row,) = json.loads(out)
    assert (code, row["chunks"], [each["chunk"] for each in row["damaged"]]) == (1, 2, [2])
    code, out, _ = run(capsys, "verify", "--give-up")
    assert (code, "given up: chunk 2" in out) == (0, True)
    assert archived.numbers() == [1, 2, 5, 6]
    assert run(capsys, "verify")[0] == 0


def test_a_chunk_that_is_whole_again_is_no_gap(archived, capsys):
    archived.add(events(1))
    archived.damage(1, "types = 'x'")
    assert run(capsys, "verify")[0] == 1
    archived.damage(1, "types = 'order.created'")
    assert run(capsys, "verify")[0] == 0
    assert json.loads(run(capsys, "list", "-o", "json")[1])[0]["gaps"] == []


def test_state_show_has_a_line_of_each_archive(archived, capsys):
    archived.add(events(1, 2), now=time.time() - 3 * 3600)
    code = main(["state", "show"])
    out = capsys.readouterr().out
    line = out[out.index("ARCHIVE OF") :].splitlines()[1].split()
    assert (code, line[:2], line[-3:]) == (0, ["orders", "2"], ["3", "h", "ago"])
    main(["state", "show", "-o", "json"])
    (archive,) = json.loads(capsys.readouterr().out)[0]["archives"]
    assert archive["events"] == 2


FLOW = """
modules:
  - {name: jobs, type: source.kafka, config: {brokers: "127.0.0.1:1", topics: [t]}ARCHIVE}
  - name: rows
    type: source.postgres_cdc
    config:
      connection: postgresql://u@127.0.0.1:1/d
      slot_name: s
      tables: [{schema: public, table: t}]
pipelines:
  p: {trigger: {source: jobs}, steps: [{name: say, type: step.log, config: {message: hello}}]}
  q: {trigger: {source: rows}, steps: [{name: say, type: step.log, config: {message: hello}}]}
"""


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        ("", "can be read again by time, as far as its server keeps events"),
        (
            ", archive: {retention: 7d, max_size: 50GB}",
            "can be read again by time from its archive (kept 7 d, at most 50.0 GB)",
        ),
    ],
)
def test_explain_tells_whose_past_can_be_read_again(tmp_path, capsys, archive, told):
    (tmp_path / "flow.yaml").write_text(FLOW.replace("ARCHIVE", archive))
    assert main(["explain", str(tmp_path / "flow.yaml")]) == 0
    out = capsys.readouterr().out
    assert told in out
    assert "can't be read again by time: it has no `archive:`" in out


def test_connectors_tell_whose_past_can_be_read_again(capsys):
    main(["connectors", "describe", "source.kafka"])
    assert "its past can be read again by time" in capsys.readouterr().out
    main(["connectors", "list", "-o", "json"])
    by_time = {one["type"] for one in json.loads(capsys.readouterr().out) if one["by_time"]}
    assert {"source.kafka", "messaging.kafka"} <= by_time
    assert "source.postgres_cdc" not in by_time
