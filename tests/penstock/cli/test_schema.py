"""`penstock schema`: the registry from the command line."""

from __future__ import annotations

import io
import json

import pytest

from connectors.batch import Batch
from flows.state.store import open_store
from penstock.cli.app import main
from tests.flows.state.samples import chunk, commit, encode_chunk, settlement
from transforms.executions import Executions

ORDER = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": {"type": "string"}},
}
WIDER = {**ORDER, "properties": {**ORDER["properties"], "note": {"type": "string"}}}
BROKEN = {**ORDER, "properties": {"id": {"type": "integer"}}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with schemas in it, in which sqlite:///penstock.db is the default state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    for name, schema in (("order", ORDER), ("wider", WIDER), ("broken", BROKEN)):
        (tmp_path / f"{name}.json").write_text(json.dumps(schema))
    return tmp_path


def run(capsys, *arguments):
    code = main(["schema", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def filled(folder, capsys):
    assert run(capsys, "register", "orders", "order.json", "--version", "1.0")[0] == 0
    assert run(capsys, "register", "orders", "wider.json", "--version", "1.1")[0] == 0
    return folder


def test_a_schema_is_registered_once(folder, capsys):
    code, out, _ = run(capsys, "register", "orders", "order.json", "--version", "1.0")
    assert (code, out) == (0, "orders version 1 (1.0) registered, with id 1.\n")
    code, out, _ = run(capsys, "register", "orders", "order.json")
    assert (code, out) == (0, "orders version 1 (1.0) was registered already, with id 1.\n")


def test_what_breaks_readers_is_listed_and_not_registered(filled, capsys):
    code, out, _ = run(capsys, "register", "orders", "broken.json")
    assert code == 1
    assert out.startswith("orders: not BACKWARD compatible.\n")
    assert "TYPE_CHANGED" in out
    assert "/properties/id" in out
    code, out, _ = run(capsys, "list", "--subject", "orders", "-o", "json")
    assert [each["version"] for each in json.loads(out)] == [1, 2]


def test_subjects_and_versions_are_listed(filled, capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert out.splitlines()[1].split() == ["orders", "2", "1.1", "2", "BACKWARD"]
    code, out, _ = run(capsys, "list", "-o", "json")
    assert json.loads(out)[0]["latest"] == 2
    _, out, _ = run(capsys, "list", "--subject", "orders")
    assert [line.split() for line in out.splitlines()[1:]] == [["1", "1.0", "1"], ["2", "1.1", "2"]]


@pytest.mark.parametrize(
    ("subject", "schema"),
    [
        ("orders", WIDER),
        ("orders@latest", WIDER),
        ("orders@2", WIDER),
        ("orders@1", ORDER),
        ("orders@1.0", ORDER),
    ],
)
def test_a_version_is_shown_by_number_or_by_what_flow_files_call_it(
    filled, capsys, subject, schema
):
    code, out, _ = run(capsys, "show", subject)
    assert (code, json.loads(out)) == (0, schema)
    _, out, _ = run(capsys, "show", subject, "-o", "json")
    assert json.loads(json.loads(out)["schema"]) == schema


def test_what_is_not_there_is_an_error_that_says_what_is(filled, capsys):
    code, _, err = run(capsys, "show", "nobody")
    assert code == 2
    assert "error[schema_subject_unknown]: Subject 'nobody' not found." in err
    code, _, err = run(capsys, "show", "orders@7.0")
    assert code == 2
    assert "orders has no version 7.0." in err
    assert "It has 1.0, 1.1." in err


def test_check_tells_whether_it_would_do(filled, capsys):
    assert run(capsys, "check", "orders", "wider.json")[:2] == (0, "orders: BACKWARD compatible.\n")
    code, out, _ = run(capsys, "check", "orders@1.0", "broken.json", "-o", "json")
    assert code == 1
    found = json.loads(out)
    assert (found["subject"], found["compatible"]) == ("orders", False)
    assert found["incompatibilities"][0] == {
        "rule": "TYPE_CHANGED",
        "pointer": "/properties/id",
        "version": 1,
        "direction": "BACKWARD",
        "message": "the type is another",
    }
    assert run(capsys, "check", "nobody", "wider.json")[0] == 2


def test_diff_lists_changes_and_whom_they_break(filled, capsys):
    code, out, _ = run(capsys, "diff", "orders@1.0", "broken.json")
    assert code == 0
    assert "TYPE_CHANGED  /properties/id  breaks" in out
    assert "the older one's data can't be read" in out
    _, out, _ = run(capsys, "diff", "order.json", "wider.json", "-o", "json")
    found = json.loads(out)
    assert (found["backward_compatible"], found["forward_compatible"]) == (True, False)
    assert found["changes"][0]["rule"] == "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL"


def test_references_are_named_by_version(filled, capsys):
    (filled / "cart.json").write_text('{"properties": {"order": {"$ref": "order.json"}}}')
    code, _, err = run(capsys, "register", "carts", "cart.json")
    assert code == 2
    assert "the $ref order.json leads nowhere" in err
    refers = ("--reference", "order.json=orders@1.0")
    assert run(capsys, "register", "carts", "cart.json", *refers)[0] == 0
    _, out, _ = run(capsys, "list", "--subject", "carts")
    assert "orders@1" in out
    assert run(capsys, "register", "carts", "cart.json", "--reference", "order.json")[0] == 2


def test_what_is_no_schema_is_told(folder, capsys):
    (folder / "wrong.json").write_text('{"type": "objekt"}')
    code, _, err = run(capsys, "register", "orders", "wrong.json")
    assert code == 2
    assert "error[schema_not_valid]" in err
    code, _, err = run(capsys, "register", "orders", "nowhere.json")
    assert code == 2
    assert "nowhere.json can't be read" in err


def test_infer_drafts_from_events_and_data(folder, capsys, monkeypatch):
    (folder / "events.jsonl").write_text(
        '{"specversion": "1.0", "id": "1", "data": {"id": "a"}}\n[{"id": "b", "n": 1}]\n'
    )
    code, out, err = run(capsys, "infer", "events.jsonl")
    assert code == 0
    assert err == "Drafted from 2 values.\n"
    draft = json.loads(out)
    assert draft["required"] == ["id"]
    assert draft["properties"] == {"id": {"type": "string"}, "n": {"type": "integer"}}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}\n{"a": '))
    code, _, err = run(capsys, "infer", "-")
    assert code == 2
    assert "-:2: this is not JSON" in err


def test_a_flow_file_names_the_state(folder, capsys):
    (folder / "shop.yaml").write_text('state: {url: "sqlite:///other.db"}\n')
    assert run(capsys, "register", "orders", "order.json", "shop.yaml")[0] == 0
    assert (folder / "other.db").exists()
    assert run(capsys, "list", "shop.yaml")[1].splitlines()[1].startswith("orders")
    code, _, err = run(capsys, "list")
    assert code == 2
    assert "error[state_missing]" in err


def test_infer_reads_recorded_events(folder, capsys):
    (folder / "shop.yaml").write_text(
        'name: shop\nmodules: [{name: in, type: source.kafka, config: {brokers: "b:1", topics: [t]}}]\n'
        "pipelines:\n  orders:\n    trigger: {source: in}\n"
        "    steps: [{name: say, type: step.log, config: {message: seen}}]\n"
    )
    store = open_store("sqlite:///penstock.db")
    lease = store.acquire_lease("shop", "orders/0", "me", 60.0)
    types = ["order.made", "order.paid", "ping"]
    for number, data in enumerate(({"id": "a"}, {"id": "b", "n": 1}, {"other": True})):
        columns = {"raw": [json.dumps(data).encode()], "data": [data], "type": [types[number]]}
        executions = Executions(events=Batch(1, columns, after={}), pipeline="orders")
        body = chunk(encode_chunk(executions, meta={}), pipeline="orders", types=types[number])
        commit(store, lease, [settlement(pipeline="orders", history=body)])
    store.close()
    arguments = ("infer", "--history", "shop.yaml", "--pipeline", "orders")
    code, out, err = run(capsys, *arguments, "--event-type", "order.*")
    assert (code, err) == (0, "Drafted from 2 values.\n")
    assert json.loads(out)["required"] == ["id"]
    code, out, err = run(capsys, *arguments)
    assert err == "Drafted from 3 values.\n"
    assert run(capsys, *arguments[:3], "--pipeline", "nobody")[0] == 2
    assert run(capsys, "infer")[0] == 2
