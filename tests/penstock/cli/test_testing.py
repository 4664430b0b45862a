"""`penstock test`: what it prints, JUnit, JSON, exit codes, what starts with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema_rs
import pytest
import typer

from flows.testing.documents import find_suites
from flows.testing.json_schema import cases_json_schema
from flows.testing.suites import load_suite, run_suite
from penstock.cli.app import app, main
from penstock.cli.case_report import Paint, case_lines
from penstock.cli.rerun import stamps, watched_folders
from penstock.cli.testing import CasesCall, plain_call

FLOW = """
modules:
  - { name: in, type: source.kafka, config: { brokers: "b:1", topics: [in] } }
  - { name: out, type: sink.stdout }
pipelines:
  p:
    trigger: { source: in }
    steps:
      - { name: shape, type: step.set, config: { values: { id: "{{ .data.id }}" } } }
      - { name: publish, type: step.publish }
"""
TESTS = """tests:
  - name: it passes
    data: { id: 1 }
    expect:
      published:
        - data: { id: 1 }
  - name: it <fails>
    data: { id: 1 }
    expect:
      published:
        - data: { id: 2, more: [1, "\\u0001"] }
"""


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "flow.test.yaml").write_text(TESTS)
    return tmp_path


def test_failures_are_shown_with_place_path_and_both_sides_and_no_colours(flow, capsys):
    assert main(["test", "flow.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:9] == [
        "ok    it passes",
        "FAIL  it <fails>",
        "  flow.test.yaml:11:23: expect.published[0].data.id",
        "    expected  2",
        "    found     1",
        "  flow.test.yaml:11:26: expect.published[0].data.more",
        '    expected  [1, "\\u0001"]',
        "    found     nothing",
        "",
    ]
    assert lines[9].startswith("1 passed, 1 failed in ")


def test_a_terminal_gets_colours(flow):
    (suite,) = find_suites([flow / "flow.yaml"])
    text = "\n".join(
        line
        for result in run_suite(suite, load_suite(suite, {}))
        for line in case_lines(result, Paint(coloured=True))
    )
    assert "\x1b[32mok\x1b[0m" in text
    assert "expected  \x1b[32m2\x1b[0m" in text
    assert "found     \x1b[31m1\x1b[0m" in text


def test_one_case_can_be_chosen_and_a_name_that_is_none_is_a_mistake(flow, capsys):
    assert main(["test", "flow.yaml", "--case", "it passes"]) == 0
    assert capsys.readouterr().out.startswith("ok    it passes\n1 passed in ")
    assert main(["test", "flow.yaml", "--case", "it pases"]) == 2
    assert capsys.readouterr().err == (
        "error[unknown_case]: there is no case it pases.\n  Did you mean it passes?\n"
    )


def test_json_says_the_same(flow, capsys):
    assert main(["test", "flow.yaml", "-o", "json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["ok"], shown["passed"], shown["failed"]) == (False, 1, 1)
    passed, failed = shown["cases"]
    assert passed["ok"] is True
    assert (failed["name"], failed["pipeline"], failed["line"]) == ("it <fails>", "p", 7)
    assert failed["failures"] == [
        {
            "file": "flow.test.yaml",
            "line": 11,
            "column": 23,
            "path": "expect.published[0].data.id",
            "message": "",
            "expected": 2,
            "found": 1,
        },
        {
            "file": "flow.test.yaml",
            "line": 11,
            "column": 26,
            "path": "expect.published[0].data.more",
            "message": "",
            "expected": [1, "\x01"],
        },
    ]


def test_junit_has_a_suite_per_file_and_the_failures(flow, capsys):
    assert main(["test", "flow.yaml", "--junit", "out.xml"]) == 1
    root = ET.parse(flow / "out.xml").getroot()
    (suite,) = root
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (
        "flow.test.yaml",
        "2",
        "1",
    )
    passed, failed = suite
    assert (passed.get("name"), passed.get("classname")) == ("it passes", "flow.p")
    assert len(passed) == 0
    assert failed.get("name") == "it <fails>"
    assert "expected  2\n  found     1" in failed[0].text
    assert main(["test", "flow.yaml", "--junit", "none/out.xml"]) == 2


def test_a_wrong_test_file_is_exit_code_2_with_its_place(flow, capsys):
    (flow / "flow.test.yaml").write_text(TESTS.replace("published", "publishd", 1))
    assert main(["test", "flow.yaml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "flow.test.yaml:5:7: unknown key publishd." in printed.err
    assert "Did you mean published?" in printed.err


def test_secrets_of_the_flow_are_masked(flow, capsys):
    (flow / "flow.yaml").write_text(
        FLOW.replace("values: {", 'values: { token: "${API_TOKEN}", x: "{{ .data.id.x.y }}",')
    )
    (flow / "flow.test.yaml").write_text(f"environment: {{ API_TOKEN: hunter2000 }}\n{TESTS}")
    assert main(["test", "flow.yaml"]) == 1
    printed = capsys.readouterr()
    assert "hunter2000" not in printed.out + printed.err


def test_the_state_store_is_never_touched(flow, monkeypatch, capsys):
    monkeypatch.setenv("PENSTOCK_STATE_URL", "nonsense://")
    assert main(["test", "flow.yaml", "--case", "it passes"]) == 0
    assert sorted(path.name for path in flow.iterdir()) == ["flow.test.yaml", "flow.yaml"]


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["test", "a.yaml"], CasesCall(["a.yaml"])),
        (
            ["test", "a", "--case", "x", "--case=y", "--junit", "o", "-o", "json", "b", "--watch"],
            CasesCall(["a", "b"], ["x", "y"], True, "o", "json"),
        ),
        (["test", "--output=text", "a"], CasesCall(["a"])),
        (["test"], None),
        (["test", "--help"], None),
        (["test", "a", "--case"], None),
        (["test", "a", "--cas", "x"], None),
        (["test", "a", "-o", "xml"], None),
        (["test", "a", "-ojson"], None),
        (["run", "a"], None),
        ([], None),
    ],
)
def test_a_plain_command_line_is_read_without_typer_and_any_other_is_left_to_it(words, call):
    found = plain_call(words)
    if call is None:
        assert found is None
        return
    assert [str(file) for file in found.files] == call.files
    assert found.wanted == list(call.wanted)
    assert (found.watch, found.output) == (call.watch, call.output)
    assert (None if found.junit is None else str(found.junit)) == call.junit


def test_the_plain_command_line_knows_every_option_that_typer_does():
    command = typer.main.get_command(app).commands["test"]
    options = {name for one in command.params for name in one.opts if name.startswith("-")}
    assert options - {"--help"} == {"--case", "--watch", "--junit", "--output", "-o"}


def test_nothing_is_imported_that_a_test_does_not_need(flow):
    code = (
        "import sys; sys.argv = ['penstock', 'test', 'flow.yaml', '--case', 'it passes'];"
        "from penstock.__main__ import main; main();"
        "print([m for m in ('bytewax', 'sqlalchemy', 'typer', 'rich', 'structlog', 'psycopg',"
        " 'confluent_kafka', 'httpx') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert result.stderr == "[]\n"
    assert result.stdout.startswith("ok    it passes\n1 passed")


def test_watch_runs_again_when_a_file_changes(flow):
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "test", "flow.yaml", "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("1 passed, 1 failed"):
                time.sleep(0.01)  # so that the file's time differs
                (flow / "flow.test.yaml").write_text(TESTS.replace("{ id: 2, more", "{ id: 1, x"))
            elif line.startswith("1 passed") or seen.count("FAIL  it <fails>\n") == 2:
                break
        assert seen.count("ok    it passes\n") == 2
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_what_is_watched_are_the_files_that_a_run_reads(flow):
    (flow / "other").mkdir()
    (flow / "other" / "far.test.yaml").write_text(f"flow: ../flow.yaml\n{TESTS}")
    (flow / "steps.py").write_text("")
    (flow / "notes.txt").write_text("")
    folders = watched_folders([flow / "other" / "far.test.yaml"])
    found = {Path(path).name for path in stamps(folders)}
    assert found == {"far.test.yaml", "flow.yaml", "flow.test.yaml", "steps.py"}


def test_the_json_schema_takes_what_the_command_takes_and_refuses_unknown_keys(capsys):
    assert main(["schema", "tests"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == cases_json_schema()
    validator = jsonschema_rs.Draft7Validator(shown)
    good = {"tests": [{"name": "a", "data": 1, "expect": {"assert": [".x"], "outcome": "done"}}]}
    assert validator.is_valid(good)
    assert not validator.is_valid(good | {"test": 1})
    assert not validator.is_valid({"tests": [{"name": "a", "data": 1, "expct": {}}]})
    assert not validator.is_valid({"tests": []})
    described = shown["definitions"]["Case"]["properties"]["mocks"]["description"]
    assert described.startswith("Step → what it answers")
