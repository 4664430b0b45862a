"""`penstock state` and `penstock dlq`, on a real state store."""

from __future__ import annotations

import json
import time

import pytest

from connectors.contracts import Lag
from flows.state.copies import letter_copy
from flows.state.copy_store import RefusedCopy
from flows.state.store import open_store
from penstock.cli.app import main
from tests.flows.state.samples import commit, letter, settlement


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder, in which sqlite:///penstock.db is the default state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    return tmp_path


@pytest.fixture
def filled(folder):
    store = open_store("sqlite:///penstock.db")
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    commit(
        store,
        lease,
        [
            settlement(done=5, failed=2, letters=[letter(1), letter(2)]),
            settlement(done=7, pipeline="audit"),
        ],
        {"slot": "0000000A/00000001"},
        {"slot": Lag(bytes=1500, seconds=3.0)},
    )
    store.close()
    return folder


def run(capsys, *arguments):
    code = main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_state_show_prints_positions_lags_and_totals(filled, capsys):
    code, out, _ = run(capsys, "state", "show")
    assert code == 0
    assert out.startswith("shop, in sqlite:///penstock.db\n")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["orders"][1:5] == ["slot", "0000000A/00000001", "1.5", "kB"]
    assert rows["enrich"] == ["enrich", "5", "2", "0", "0", "2"]
    assert rows["audit"] == ["audit", "7", "0", "0", "0", "0"]


def test_state_show_as_json_has_the_same_numbers(filled, capsys):
    code, out, _ = run(capsys, "state", "show", "--flow", "shop", "-o", "json")
    assert code == 0
    (shown,) = json.loads(out)
    assert shown["partitions"][0]["lag_bytes"] == 1500
    assert {row["pipeline"]: row["done"] for row in shown["pipelines"]} == {"audit": 7, "enrich": 5}


@pytest.mark.parametrize("command", [["state", "show"], ["dlq", "list"], ["dlq", "show", "0199"]])
def test_without_any_state_the_answer_says_where_it_was_looked_for(command, folder, capsys):
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "")
    assert "error[state_missing]: there is no state at" in err
    assert "Name the flow file" in err
    assert list(folder.iterdir()) == []


def test_a_store_that_is_named_and_not_there_is_made_by_running(folder, capsys):
    code, _, err = run(capsys, "dlq", "list", "--state", "sqlite:///other.db")
    assert code == 2
    assert "`penstock run FLOW.yaml`" in err


def test_a_flow_name_with_a_typo_is_answered_with_the_one_that_is_meant(filled, capsys):
    code, _, err = run(capsys, "dlq", "list", "--flow", "shpo")
    assert code == 2
    assert "error[state_no_flow]: the flow shpo has stored nothing" in err
    assert "Did you mean shop?" in err


def test_a_pipeline_name_with_a_typo_is_no_empty_list(filled, capsys):
    code, _, err = run(capsys, "dlq", "list", "--pipeline", "enrihc")
    assert code == 2
    assert "Did you mean enrich?" in err
    code, out, _ = run(capsys, "dlq", "list", "--pipeline", "audit")
    assert (code, out) == (0, "No dead letters.\n")


def test_dead_letters_are_listed_newest_first_page_by_page(filled, capsys):
    code, out, _ = run(capsys, "dlq", "list", "--limit", "1")
    assert code == 0
    heading, row, more = out.splitlines()
    assert heading.startswith("FAILED\tPIPELINE")
    assert row.split("\t")[-1] == letter(2).id
    _, out, _ = run(capsys, "dlq", "list", *more.removeprefix("More: ").split())
    assert [line.split("\t")[-1] for line in out.splitlines()[1:]] == [letter(1).id]


def _listed(capsys, *options):
    code, out, err = run(capsys, "dlq", "list", *options)
    assert (code, err) == (0, "")
    return [line.split("\t")[-1] for line in out.splitlines()[1:]]


@pytest.mark.parametrize(
    "options",
    [
        ["--step", "shape"],
        ["--error", "jq_failed"],
        ["--type", "order.ch*"],
        ["--tenant", "acme"],
        ["--since", "2h"],
        ["--since", "2001-09-09T01:46:39Z"],
        ["--where", ".data.total == 7"],
        ["--where", ".data.total == 7", "--pipeline", "enrich", "--since", "1d"],
    ],
)
def test_dead_letters_are_listed_by_what_they_have(options, filled, capsys):
    store = open_store("sqlite:///penstock.db")
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    other = letter(
        9,
        step="shape",
        error_code="jq_failed",
        event_type="order.changed",
        tenant="acme",
        last_failed_at=time.time(),
        event='{"specversion":"1.0","id":"e","source":"/s","type":"t","data":{"total":7}}',
    )
    commit(store, lease, [settlement(letters=[other])])
    store.close()
    assert _listed(capsys, *options) == [other.id]


def test_pages_of_what_jq_chooses_follow_each_other(filled, capsys):
    where = ["--where", ".data.total > 10"]
    _, out, _ = run(capsys, "dlq", "list", *where, "--limit", "1")
    more = out.splitlines()[-1].removeprefix("More: ").split()
    assert _listed(capsys, *where, *more) == [letter(1).id]


def test_a_time_or_a_jq_program_that_is_none_is_told(filled, capsys):
    code, _, err = run(capsys, "dlq", "list", "--since", "yesterday")
    assert code == 2
    assert "neither a duration nor a time" in err
    code, _, err = run(capsys, "dlq", "list", "--where", ".data.")
    assert code == 2
    assert "error[where_invalid]" in err


def test_dead_letters_as_json_can_be_read_by_programs(filled, capsys):
    _, out, _ = run(capsys, "dlq", "list", "-o", "json")
    ids = [item["id"] for item in json.loads(out)["dead_letters"]]
    assert ids == [letter(2).id, letter(1).id]
    _, out, _ = run(capsys, "dlq", "show", letter(1).id, "-o", "json")
    shown = json.loads(out)
    assert shown["error"]["code"] == "http_status"
    assert '"total":10.50' in out  # digit for digit


def test_a_dead_letter_is_shown_with_its_event_and_error(filled, capsys):
    code, out, _ = run(capsys, "dlq", "show", letter(1).id[:-1] + "1")
    assert code == 0
    assert "the server answered 422." in out
    assert '"total": 10.5' in out


def test_the_start_of_several_ids_is_refused_with_those_it_fits(filled, capsys):
    code, _, err = run(capsys, "dlq", "show", "019a")
    assert code == 2
    assert letter(1).id in err
    assert letter(2).id in err


def test_a_flow_file_where_the_id_belongs_is_told_the_order(filled, capsys):
    code, _, err = run(capsys, "dlq", "show", "shop.yaml")
    assert code == 2
    assert "penstock dlq show ID shop.yaml" in err


def test_the_state_url_of_the_environment_is_used(filled, capsys, monkeypatch):
    monkeypatch.setenv("PENSTOCK_STATE_URL", f"sqlite:///{filled}/penstock.db")
    monkeypatch.chdir("/")
    code, out, _ = run(capsys, "dlq", "list")
    assert code == 0
    assert letter(1).id in out


@pytest.mark.parametrize(
    ("url", "code", "error"),
    [
        ("mysql://x/y", 2, "error[state_url]"),
        ("sqlite:///no/such/folder/x.db", 4, "error[state_no_folder]"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", 3, "error[state_unreachable]"),
    ],
)
def test_a_state_url_that_leads_nowhere_is_one_error_without_the_password(
    url, code, error, folder, capsys
):
    result = run(capsys, "state", "show", "--state", url)
    assert result[0] == code
    assert result[2].startswith(error)
    assert "hunter2" not in result[2]
    assert "?." not in result[2]


def test_discarded_dead_letters_are_archived_beside_the_state_and_imported_again(filled, capsys):
    code, out, _ = run(capsys, "dlq", "discard", "--error", "http_status", "-o", "json")
    told = json.loads(out)
    assert (code, told["discarded"]) == (0, 2)
    assert told["archive"].startswith(f"{filled}/dead-letter-archive/")
    assert _listed(capsys) == []
    code, out, _ = run(capsys, "dlq", "import", told["archive"])
    assert (code, out) == (0, "Imported 2 dead letters.\n")
    assert _listed(capsys) == [letter(2).id, letter(1).id]


def test_a_discard_says_which_and_a_purge_leaves_no_archive(filled, capsys):
    code, _, err = run(capsys, "dlq", "discard")
    assert code == 2
    assert "which dead letters?" in err
    code, _, err = run(capsys, "dlq", "discard", "--all", "--purge", "--archive", "x")
    assert code == 2
    code, out, _ = run(capsys, "dlq", "discard", letter(1).id, "--purge")
    assert (code, out) == (0, "Discarded 1 dead letter.\n")
    assert [entry.name for entry in filled.iterdir() if "archive" in entry.name] == []
    assert _listed(capsys) == [letter(2).id]


def test_an_archive_that_can_not_be_written_is_one_error_and_nothing_is_deleted(filled, capsys):
    (filled / "file").write_text("")
    code, _, err = run(capsys, "dlq", "discard", "--all", "--archive", "file/x.jsonl")
    assert code == 2
    assert "error[archive_unwritable]" in err
    assert len(_listed(capsys)) == 2


def test_an_export_is_a_file_when_all_of_it_is_there_and_makes_a_new_state(filled, capsys):
    code, out, _ = run(capsys, "dlq", "export", "--to", "letters.jsonl")
    assert (code, out) == (0, "Exported 2 dead letters to letters.jsonl.\n")
    assert not (filled / "letters.jsonl.part").exists()
    new = ["--state", "sqlite:///new.db"]
    assert run(capsys, "dlq", "import", "letters.jsonl", *new)[:2] == (
        0,
        "Imported 2 dead letters.\n",
    )
    _, out, _ = run(capsys, "dlq", "import", "letters.jsonl", *new)
    assert out == "Imported 0 dead letters.\n2 were there already.\n"
    assert _listed(capsys, *new, "--flow", "shop") == [letter(2).id, letter(1).id]


def test_a_file_to_import_that_is_not_there_is_told(folder, capsys):
    code, _, err = run(capsys, "dlq", "import", "nothing.jsonl")
    assert code == 2
    assert "error[import_unreadable]" in err
    assert list(folder.iterdir()) == []


def test_statistics_are_json_too(filled, capsys):
    code, out, _ = run(capsys, "dlq", "stats", "-o", "json")
    told = json.loads(out)
    assert (code, told["total"]) == (0, 2)
    assert told["groups"][0]["error_code"] == "http_status"
    assert told["groups"][0]["hint"] == "Look at the body."


def test_statistics_are_of_what_jq_chooses(filled, capsys):
    code, out, _ = run(capsys, "dlq", "stats", "--where", "false", "-o", "json")
    assert (code, json.loads(out)["total"]) == (0, 0)
    code, _, err = run(capsys, "dlq", "stats", "--where", ".data.[")
    assert code == 2
    assert "error[where_invalid]" in err


def test_state_show_tells_how_many_dead_letters_are_too_many(filled, folder, capsys):
    config = {"brokers": "127.0.0.1:1", "topics": ["orders"]}
    flow = {
        "name": "shop",
        "modules": [
            {"name": "orders", "type": "source.kafka", "config": config},
            {"name": "out", "type": "sink.stdout"},
        ],
        "pipelines": {
            name: {
                "trigger": {"source": "orders"},
                "dead_letter": {"alert_threshold": most},
                "steps": [{"name": "send", "type": "step.publish", "config": {"sink": "out"}}],
            }
            for name, most in (("enrich", 1), ("audit", 10))
        },
    }
    (folder / "shop.json").write_text(json.dumps(flow))
    code, out, err = run(capsys, "state", "show", "shop.json")
    assert code == 0, err
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert rows["enrich"].endswith("2 (alert: more than 1)")
    assert rows["audit"].endswith("0 of 10")
    _, out, _ = run(capsys, "state", "show", "shop.json", "-o", "json")
    (shown,) = json.loads(out)
    assert {row["pipeline"]: row["alert_threshold"] for row in shown["pipelines"]} == {
        "enrich": 1,
        "audit": 10,
    }


def test_state_show_tells_which_copies_of_dead_letters_wait_and_which_have_no_sink_any_more(
    filled, folder, capsys
):
    assert "COPIES" not in run(capsys, "state", "show")[1]
    store = open_store("sqlite:///penstock.db")
    settled = []
    for place, pipeline in enumerate(("audit", "enrich", "former")):
        made = settlement(pipeline=pipeline)
        for number in range(3):
            failed = letter(100 + place * 10 + number, pipeline=pipeline)
            made.copies.append(letter_copy(failed, None, acting="step.jq", error=None))
        settled.append(made)
    commit(store, store.acquire_lease("shop", "orders/0", "me", 60.0), settled)
    lease = store.acquire_lease("shop", "orders/dead-letters/dead", "me", 60.0)
    first = store.copies.waiting("shop", ["enrich"])[0].number
    store.copies.settle(lease, [], {first: RefusedCopy("too_large", "too large.")}, "dead", None)
    store.close()
    config = {"brokers": "127.0.0.1:1", "topics": ["orders"]}
    step = {"name": "send", "type": "step.publish", "config": {"sink": "out"}}
    flow = {
        "name": "shop",
        "modules": [
            {"name": "orders", "type": "source.kafka", "config": config},
            {"name": "out", "type": "sink.stdout"},
            {"name": "dead", "type": "sink.file", "config": {"path": "dead.jsonl"}},
        ],
        "pipelines": {
            name: {"trigger": {"source": "orders"}, "dead_letter": letters, "steps": [step]}
            for name, letters in (("enrich", {"sink": "dead"}), ("audit", {"retention": "3d"}))
        },
    }
    (folder / "shop.json").write_text(json.dumps(flow))
    code, out, err = run(capsys, "state", "show", "shop.json")
    assert code == 0, err
    table = out[out.index("COPIES OF DEAD LETTERS") :].splitlines()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in table[1:] if line}
    assert rows == {
        "audit": "3 0 none any more: forgotten after 3 d",
        "enrich": "2 1 dead",
        "former": "3 0 none any more: forgotten after 7 d",
    }
    _, out, _ = run(capsys, "state", "show", "--flow", "shop", "-o", "json")
    (shown,) = json.loads(out)
    assert shown["copies"][1] == {
        "pipeline": "enrich",
        "waiting": 2,
        "refused": 1,
        "sink": None,
        "deliverable": None,
        "kept_for": None,
    }
