"""`penstock try`: outputs, inputs, errors with their place, and the Python behind it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from penstock.cli.app import main


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Return a function that writes an input file and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="in.json"):
        (tmp_path / name).write_text(text)
        return name

    return write


def tried(capsys, *arguments):
    code = main(["try", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_every_output_over_every_input_is_printed(given, capsys):
    file = given('{"a": [1, {"b": "x"}]}\n{"a": []} {"a": [null]}')
    assert tried(capsys, ".a[]", "-i", file, "--compact")[:2] == (0, '1\n{"b":"x"}\nnull\n')
    code, out, _ = tried(capsys, ".a", "--input", file, "--input", given('{"a": 2}', "b.json"))
    assert code == 0
    assert out.splitlines()[-1] == "2"
    assert '    "b": "x"' in out


def test_texts_can_be_printed_as_they_are(given, capsys):
    file = given('{"a": "x\\ny"}')
    assert tried(capsys, ".a", "-i", file)[1] == '"x\\ny"\n'
    assert tried(capsys, ".a", "-i", file, "--raw")[1] == "x\ny\n"


@pytest.mark.parametrize("value", [[1, 2], 7, "x", None, 12345678901234567890123])
def test_an_input_may_be_any_json_and_stays_exact(value, given, capsys):
    file = given(json.dumps(value))
    code, out, _ = tried(capsys, ".", "-i", file, "-c")
    assert (code, json.loads(out)) == (0, value)


def test_standard_input_is_read_without_input(given, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"a": 1}'))
    assert tried(capsys, ".a")[:2] == (0, "1\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert tried(capsys, ".")[:2] == (0, "null\n")


def test_an_event_is_seen_as_a_flows_steps_see_it(given, capsys):
    program = "[.data.a, .trigger.data.a, .a, .event.type, .type]"
    code, out, _ = tried(capsys, program, "--event", "-c", "-i", given('{"a": 1}'))
    assert (code, out) == (0, '[1,1,1,"test.event","test.event"]\n')
    whole = {"specversion": "1.0", "id": "i", "source": "/s", "type": "t", "tenant": "x", "data": 5}
    file = given(json.dumps(whole))
    assert tried(capsys, "[.data, .type, .tenant]", "--event", "-c", "-i", file)[1] == (
        '[5,"t","x"]\n'
    )


def test_a_template_is_rendered(given, capsys):
    file = given('{"id": "x", "n": 1000000}')
    text = "order {{ .id | upper }}: {{ .n }}"
    assert tried(capsys, "--template", text, "-r", "-i", file)[1] == "order X: 1000000\n"
    assert tried(capsys, "--template", "{{ .n }}", "-i", file)[1] == "1000000\n"


def test_the_engine_is_named_on_standard_error(given, capsys):
    assert tried(capsys, ".a", "-i", given("{}"))[2].startswith("path: ")


def test_a_program_that_does_not_compile_is_shown_with_a_caret(given, capsys):
    code, out, err = tried(capsys, ".a | env", "-i", given("{}"))
    assert (code, out) == (2, "")
    assert "env is not allowed" in err
    lines = err.splitlines()
    assert lines[0].startswith("expression:1:6: ")
    assert lines[1:3] == ["  1 | .a | env", "    |      ^"]


def test_an_input_that_the_program_fails_on_is_said_and_the_next_is_tried(given, capsys):
    file = given('{"a": {}} {"a": 1}')
    code, out, err = tried(capsys, ".a + 1", "-i", file)
    assert (code, out) == (1, "2\n")
    assert "cannot be added" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a jq program or --template"),
        ([".a", "--template", "{{ .a }}"], "expected a jq program or --template"),
        ([".a", "-i", "none.json"], "none.json can't be read"),
        ([".a", "-i", "bad.json"], "bad.json:2:4: this is not JSON"),
        (["--template", "{{ .a }}", "-i", "list.json"], "a template reads the fields of an object"),
    ],
)
def test_what_cannot_be_read_is_said(arguments, message, given, capsys):
    given("{}\n[1,}", "bad.json")
    given("[]", "list.json")
    code, _, err = tried(capsys, *arguments)
    assert code in {1, 2}
    assert message in err


def test_an_error_while_it_runs_is_shown_at_its_place_in_the_program(given, capsys):
    code, _, err = tried(capsys, ".a\n| . + 1", "-i", given('{"a": {}}'))
    assert code == 1
    assert "expression:2:5: " in err
    assert err.splitlines()[-2:] == ["  2 | | . + 1", "    |     ^"]


def test_the_python_that_runs_is_printed(given, capsys):
    code, out, _ = tried(capsys, ".a + 1", "--source")
    assert code == 0
    assert "def column(found, " in out
    compile(out, "shown", "exec")
    code, out, _ = tried(capsys, "--template", "n {{ .a | upper }} {{ .b + 1 }}", "--source")
    assert out.startswith("# {{ .b + 1 }}\ndef column(found, ")
    code, out, err = tried(capsys, "--template", "{{ .a }}", "--source")
    assert (code, out) == (1, "")
    assert "no Python is generated for it" in err
