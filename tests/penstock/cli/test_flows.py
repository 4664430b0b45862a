"""`validate`, `explain` and `run` on flow files that are right, wrong, or ahead of their time."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from penstock.cli.app import main

FLOW = """\
version: 1
name: shop
modules:
  - name: changes
    type: source.postgres_cdc
    config:
      connection: "postgresql://shop:hunter2@127.0.0.1:1/shop"
      slot_name: shop
      tables: [{ schema: public, table: orders }]
  - { name: files, type: sink.file, config: { path: "{{ .type }}.jsonl" } }
  - name: hook
    type: sink.webhook
    config: { url: "http://127.0.0.1:1/events" }
pipelines:
  ship:
    trigger: { type: event, source: changes, when: ".data.total > 0" }
    key: ".data.id | tostring | ascii_downcase"
    steps:
      - name: check
        type: step.http_call
        if: ".operation != \\"DELETE\\""
        config: { url: "http://127.0.0.1:1/{{ .data.id }}", method: POST }
      - name: shape
        type: step.jq
        config: { expression: "{id: .data.id}" }
      - name: keep
        type: step.publish
        config: { sink: files }
      - name: tell
        type: step.publish
        on_error: skip
        config: { sink: hook }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    (tmp_path / "shop.yaml").write_text(FLOW)
    yield tmp_path
    for name in set(sys.modules) - before:  # the flow's own: another test has none of that name
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def run(capsys, *arguments):
    code = main(list(arguments))
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert "hunter2" not in printed.out + printed.err
    return code, printed.out, printed.err


def change(folder, old, new):
    assert old in FLOW
    (folder / "shop.yaml").write_text(FLOW.replace(old, new))


# --- validate ---------------------------------------------------------------------------------


def test_a_flow_that_is_right_is_summed_up_in_a_line(capsys):
    code, out, err = run(capsys, "validate", "shop.yaml")
    assert (code, err) == (0, "")
    assert out == "ok: shop has 1 source, 2 sinks, 1 pipeline and 4 steps.\n"


def test_all_problems_of_a_flow_are_shown_at_once_each_with_its_line(folder, capsys):
    (folder / "shop.yaml").write_text(
        FLOW.replace("slot_name", "slotname").replace("source: changes", "source: chnages")
    )
    code, out, err = run(capsys, "validate", "shop.yaml")
    assert (code, out) == (2, "")
    assert re.search(r"^shop\.yaml:8:\d+: ", err, re.MULTILINE)
    assert re.search(r"^shop\.yaml:16:\d+: ", err, re.MULTILINE)
    assert "Did you mean changes?" in err
    assert "^^^^" in err
    assert re.search(r"^error\[flow_invalid\]: \d problems in the flow file\.$", err, re.MULTILINE)


def test_problems_as_json_are_on_stdout_for_programs(folder, capsys):
    change(folder, "source: changes", "source: chnages")
    code, out, err = run(capsys, "validate", "shop.yaml", "-o", "json")
    assert (code, err) == (2, "")
    shown = json.loads(out)
    assert shown["ok"] is False
    assert shown["problems"][0]["line"] == 16


def test_what_run_would_refuse_is_listed_by_validate_and_refused_by_run(folder, capsys):
    spread = "    saga: {enabled: true}\n    partition_by: .data.id\n"
    change(folder, "    steps:\n", f"{spread}    steps:\n")
    code, out, _ = run(capsys, "validate", "shop.yaml")
    assert code == 0
    assert out.startswith("ok: ")
    assert "shop.yaml:19:" in out
    code, out, err = run(capsys, "run", "shop.yaml")
    assert (code, out) == (2, "")
    assert "shop.yaml:19:" in err
    shown = json.loads(run(capsys, "validate", "shop.yaml", "-o", "json")[1])
    assert shown["ok"] is True
    assert shown["not_built"][0]["line"] == 19


@pytest.mark.parametrize("command", ["validate", "explain", "run"])
@pytest.mark.parametrize(
    ("name", "expected"), [("shpo.yaml", "no such file"), (".", "this is a folder")]
)
def test_a_file_that_is_none_is_named_with_what_to_do(command, name, expected, capsys):
    code, out, err = run(capsys, command, name)
    assert (code, out) == (2, "")
    assert expected in err


def test_what_a_connector_itself_refuses_names_its_line(folder, capsys):
    kafka = "  - { name: bus, type: messaging.kafka, config: { brokers: [b:9092] } }\n"
    flow = FLOW.replace("pipelines:\n", f"{kafka}pipelines:\n")
    (folder / "shop.yaml").write_text(flow.replace("source: changes", "source: bus"))
    code, _, err = run(capsys, "validate", "shop.yaml")
    assert code == 2
    assert "shop.yaml:14:" in err
    assert "topics" in err


def test_connect_asks_every_server_and_says_what_to_do(capsys):
    code, out, _ = run(capsys, "validate", "shop.yaml", "--connect")
    assert code == 3
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert "it is made at the first run" in rows["state"]
    assert "FAILED" in rows["changes"]
    assert "failed." in out.splitlines()[-1]


def test_connect_as_json_has_every_check(capsys):
    code, out, _ = run(capsys, "validate", "shop.yaml", "--connect", "-o", "json")
    assert code == 3
    shown = json.loads(out)
    assert shown["ok"] is False
    assert {check["module"] for check in shown["checks"]} >= {"state", "changes", "hook"}
    assert any(check["unreachable"] for check in shown["checks"])


# --- explain ----------------------------------------------------------------------------------


def test_explain_tells_promises_engines_and_what_a_crash_repeats(capsys):
    code, out, _ = run(capsys, "explain", "shop.yaml")
    assert code == 0
    assert "changes → files, by keep: effectively once" in out
    assert "changes → hook, by tell: at least once" in out
    assert "on_error: skip" in out
    assert "check, tell act a second time" in out
    assert "workers it can use: 1" in out
    assert re.search(r"trigger\.when: \.data\.total > 0\s+.*jq on compiled", out)
    assert re.search(r"key: \.data\.id \| tostring .*\s+.*jq on compiled: ", out)
    assert "1. check" in out


def test_explain_as_json_has_every_expression_with_its_engine_and_why(capsys):
    code, out, _ = run(capsys, "explain", "shop.yaml", "-o", "json")
    assert code == 0
    (pipeline,) = json.loads(out)["pipelines"]
    found = {
        (step["name"], one["key"]): one for step in pipeline["steps"] for one in step["expressions"]
    }
    assert ("check", "if") in found
    assert ("check", "url") in found
    assert ("shape", "expression") in found
    assert all(one["engine"] and one["why"] for one in found.values())
    assert [edge["promise"] for edge in pipeline["publishes"]] == [
        "effectively once",
        "at least once",
    ]
    assert [step["effect"] for step in pipeline["steps"]] == [True, False, True, True]


def test_explain_shows_the_python_of_expressions_when_asked(capsys):
    _, out, _ = run(capsys, "explain", "shop.yaml")
    assert "def column(" not in out
    _, out, _ = run(capsys, "explain", "shop.yaml", "--source")
    assert "def column(" in out
    _, out, _ = run(capsys, "explain", "shop.yaml", "--source", "-o", "json")
    (shape,) = json.loads(out)["pipelines"][0]["steps"][1]["expressions"]
    compile(shape["source"], "shown", "exec")


def test_explain_shows_a_pipeline_that_nothing_triggers(folder, capsys):
    change(folder, '    trigger: { type: event, source: changes, when: ".data.total > 0" }\n', "")
    code, out, _ = run(capsys, "explain", "shop.yaml")
    assert code == 0
    assert "started by hand or API" in out
    assert "by hand → " in out
    with (folder / "empty.yaml").open("w") as file:
        file.write("name: empty\n")
    code, _, err = run(capsys, "run", "empty.yaml")
    assert code == 2
    assert "error[nothing_to_run]" in err


def test_a_pipeline_without_a_source_can_not_be_spread(folder, capsys):
    trigger = '    trigger: { type: event, source: changes, when: ".data.total > 0" }\n'
    change(folder, trigger, '    partition_by: ".data.id"\n')
    code, _, err = run(capsys, "run", "shop.yaml")
    assert code == 2
    assert "partition_by of a pipeline without a source is not built yet" in err


# --- run --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_ends_with_3_and_one_error_when_the_source_can_not_be_reached(folder):
    result = subprocess.run(
        [sys.executable, "-m", "penstock", "run", "shop.yaml", "--log-level", "warning"],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 3
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert errors[0].startswith("error[postgres_unreachable]: ")
    assert "Traceback" not in result.stderr
    assert "hunter2" not in result.stderr


# --- what shows when the steps are made ----------------------------------------------------------

PYTHON = """\
modules:
  - { name: changes, type: source.kafka, config: { brokers: "b:1", topics: [t] } }
pipelines:
  shape:
    trigger: { type: event, source: changes }
    steps:
      - name: split
        type: step.foreach
        config:
          collection: trigger.data.lines
          steps:
            - { name: one, type: step.python, config: { function: "shapes:one" } }
      - name: two
        type: step.python
        config: { function: "shapes:two" }
      - name: rest
        type: step.python
        config: { function: "nowhere:rest" }
"""


def test_validate_finds_python_functions_that_are_missing_or_take_something_else(folder, capsys):
    (folder / "shop.yaml").write_text(PYTHON)
    (folder / "shapes.py").write_text("def two(a, b): return a\n")
    code, out, err = run(capsys, "validate", "shop.yaml")
    assert (code, out) == (2, "")
    assert "shop.yaml:12:15: step split.one: shapes has no function one." in err
    assert "12 |             - { name: one, type: step.python" in err
    assert (
        "shop.yaml:13:9: step two: shapes:two can't be called with one value: it takes (a, b)"
        in err
    )
    assert "shop.yaml:16:9: step rest: there is no Python module nowhere." in err
    assert err.count("looked for in") == 1


def test_validate_passes_functions_that_are_there_and_lists_problems_as_json(folder, capsys):
    (folder / "shop.yaml").write_text(PYTHON.replace("shapes:", "forms:"))
    code, out, _ = run(capsys, "validate", "shop.yaml", "-o", "json")
    assert code == 2
    assert {p["code"] for p in json.loads(out)["problems"]} == {"python_module_missing"}
    (folder / "forms.py").write_text("one = two = str\n")
    (folder / "nowhere.py").write_text("from forms import one as rest\n")
    assert run(capsys, "validate", "shop.yaml")[0] == 0


def test_a_type_is_described_by_its_short_name_where_that_is_one(capsys):
    for name in ("step.http_call", "http_call"):
        assert main(["connectors", "describe", name]) == 0
        assert capsys.readouterr().out.startswith("step.http_call: ")
    assert main(["connectors", "describe", "postgres_cdc"]) == 0
    assert capsys.readouterr().out.startswith("source.postgres_cdc: ")
    assert main(["connectors", "describe", "postgres"]) == 2
    said = capsys.readouterr().err
    assert "postgres is more than one type: sink.postgres, source.postgres_cdc." in said
    assert main(["connectors", "describe", "kinesis"]) == 2
    assert "there is no type kinesis" in capsys.readouterr().err


EXPRESSIONS = """
modules:
  - name: in
    type: source.postgres_cdc
    config:
      connection: postgresql://u@h/d
      slot_name: s
      tables: [{ schema: public, table: orders }]
      filter: { condition: "NEW.total > 1" }
      output: { type_template: "order.{{ .operation | lower }}" }
  - { name: out, type: sink.file, config: { path: "out/{{ .type }}.jsonl" } }
pipelines:
  orders:
    trigger: { source: in, when: ".total > 2" }
    tenant: ".data.tenant3"
    key: ".data.id4"
    partition_by: ".data.id5"
    steps:
      - name: each
        type: step.foreach
        if: ".total > 6"
        skip_if: ".total > 7"
        config:
          collection: data.items8
          steps:
            - name: call
              type: step.http_call
              if: ".item > 9"
              config:
                url: "http://h/{{ .id10 }}"
                headers: { X-Key: "{{ .id11 }}" }
                query: { a: ["{{ .id12 }}"] }
                body: { deep: [{ er: "{{ .id13 }}" }] }
      - name: text
        type: step.log
        config: { message: "got {{ .id14 | upper }}" }
        retry: { retry_on: [{ when: ".status > 17" }], permanent_on: [{ when: ".status > 18" }] }
      - name: send
        type: step.publish
        config: { sink: out, type: "t.{{ .id15 }}", key: ".data.id16", data_from: steps.each.output }
"""


def test_every_expression_of_a_flow_is_explained_with_its_engine(tmp_path, capsys):
    path = tmp_path / "flow.yaml"
    path.write_text(EXPRESSIONS)
    assert main(["explain", str(path), "-o", "json"]) == 0
    found = {}

    def walk(value):
        if isinstance(value, dict):
            if "engine" in value:
                found[value["text"]] = value["engine"]
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(json.loads(capsys.readouterr().out))
    assert found == {
        "NEW.total > 1": "sql",
        "order.{{ .operation | lower }}": "template",
        "out/{{ .type }}.jsonl": "path",
        ".total > 2": "compiled",
        ".data.tenant3": "path",
        ".data.id4": "path",
        ".data.id5": "path",
        ".total > 6": "compiled",
        ".total > 7": "compiled",
        "data.items8": "path",
        ".item > 9": "compiled",
        ".status > 17": "compiled",
        ".status > 18": "compiled",
        "http://h/{{ .id10 }}": "path",
        "{{ .id11 }}": "path",
        "{{ .id12 }}": "path",
        "{{ .id13 }}": "path",
        "got {{ .id14 | upper }}": "template",
        "t.{{ .id15 }}": "path",
        ".data.id16": "path",
        "steps.each.output": "path",
    }
