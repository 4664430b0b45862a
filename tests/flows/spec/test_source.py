"""YAML texts: what they are read as, and what is said about those that are no YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.spec.nodes import Mapping, plain
from flows.spec.problems import Place, Problems
from flows.spec.source import read_documents, read_text


def read(text: str):
    problems = Problems()
    documents = [plain(node) for node in read_text(text, "flow.yaml", problems)]
    return documents, [str(problem) for problem in problems.found()]


def test_plain_scalars_follow_yaml_1_2_whatever_a_directive_says():
    text = (
        "%YAML 1.1\n---\n"
        "country: NO\nanswers: [yes, off, y, true, False]\nday: 2026-11-01\n"
        "numbers: [12, 012, 0o14, 0xff, 1_000, 1.5e3, .inf, -7]\n"
        "nothing: [~, null, ]\nquoted: ['5', \"true\", !!str 5]\nclock: 12:30:45\n"
    )
    (found,), problems = read(text)
    assert problems == []
    assert found == {
        "country": "NO",
        "answers": ["yes", "off", "y", True, False],
        "day": "2026-11-01",
        "numbers": [12, 12, 12, 255, "1_000", 1500.0, float("inf"), -7],
        "nothing": [None, None],
        "quoted": ["5", "true", "5"],
        "clock": "12:30:45",
    }


def test_keys_are_texts_as_they_are_written():
    (found,), _ = read("routes:\n  false: a\n  NO: b\n  1.0: c\n")
    assert found == {"routes": {"false": "a", "NO": "b", "1.0": "c"}}


def test_anchors_aliases_and_merge_keys_work():
    text = "base: &b {a: 1, b: 2}\nother: {<<: *b, b: 3}\nagain: *b\n"
    (found,), problems = read(text)
    assert problems == []
    assert found["other"] == {"a": 1, "b": 3}
    assert found["again"] == {"a": 1, "b": 2}


def test_several_documents_are_read_and_empty_ones_are_left_out():
    found, problems = read("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n")
    assert (found, problems) == ([{"a": 1}, {"b": 2}], [])


def test_every_key_and_value_has_its_place():
    problems = Problems()
    (tree,) = read_text("a: 1\nb:\n  - c: deep\n", "flow.yaml", problems)
    assert isinstance(tree, Mapping)
    item = tree.items("b")[0]
    assert isinstance(item, Mapping)
    assert item.entries["c"].key.place == Place("flow.yaml", 3, 5)
    assert item.entries["c"].value.place == Place("flow.yaml", 3, 8)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a:\n\tb: 1\n", "2:1", "a tab is used to indent; YAML takes spaces only."),
        ("a:\n  b: 1\n \tc: 1\n", "3:2", "a tab is used to indent; YAML takes spaces only."),
        ("a: b: c\n", "1:5", "a colon is not expected here."),
        (
            "a:\n  b: 1\n c: 2\n",
            "3:2",
            "this line's indentation does not match the lines above it.",
        ),
        ("a:\n  - b\n - c\n", "3:2", "this line's indentation does not match the lines above it."),
        (
            "a: 'x\nb: 1\n",
            "1:4",
            "a quoted text is not closed: the file ends before its second quote.",
        ),
        ("a: [1, 2\nb: 1\n", "1:4", "a list that was opened with [ is not closed."),
        ("url: a {b}: c\n", "1:11", "a colon is not expected here."),
        ('url: "a" b\n', "1:10", "the value goes on after its end."),
        ("a: @x\n", "1:4", "text can't start with @ unless it is in quotes."),
        ('a: "\\q"\n', "1:6", "\\q means nothing in double quotes."),
        ("a: *x\n", "1:4", "*x refers to an anchor that is not defined above it."),
        ("a: 1\nb: 2\na: 3\n", "3:1", "a is there twice; the first is on line 1."),
        ("url: {{ .x }}\n", "1:7", "a key must be text, not a list or a mapping."),
        ("a: !secret x\n", "1:4", "the tag !secret means nothing here."),
        ("a: \x07\n", "1:4", "the character U+0007 may not stand in YAML."),
        ("a: &a [*a]\n", "1:8", "*a refers to an anchor that is not defined above it."),
        ("# only this\n", "1:1", "the file holds nothing but comments."),
        (" \n", "1:1", "the file is empty."),
    ],
)
def test_what_is_no_yaml_is_said_in_plain_words_with_its_place(text, place, message):
    _, problems = read(text)
    assert problems[0].splitlines()[0] == f"flow.yaml:{place}: {message}"


def test_a_problem_shows_the_line_a_caret_and_what_to_do():
    _, problems = read("a: 1\nbee: 2\nbee: 3\n")
    (problem,) = problems
    assert problem == (
        "flow.yaml:3:1: bee is there twice; the first is on line 2.\n"
        "  3 | bee: 3\n"
        "    | ^^^\n"
        "  Delete or rename one of them."
    )


def test_a_small_file_that_stands_for_a_huge_one_is_refused():
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    _, problems = read(text)
    assert "holds more than 200000 values" in problems[0]


def test_values_nested_too_deep_are_refused():
    _, problems = read("[" * 500 + "]" * 500)
    assert "nested more than 100 deep" in problems[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file."),
        (lambda path: path.mkdir(), "this is a folder; expected a flow file."),
        (
            lambda path: path.write_bytes(b"a: 1\nb: \xff\n"),
            "the file is not UTF-8 text: byte 0xff.",
        ),
        (lambda path: path.write_bytes(b""), "the file is empty."),
        (
            lambda path: path.symlink_to(path),
            "the file can't be read: Too many levels of symbolic links.",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, make, message):
    path = tmp_path / "flow.yaml"
    make(path)
    problems = Problems()
    assert read_documents(path, problems) == []
    (problem,) = problems.found()
    assert problem.message == message
    assert problem.hint


def test_the_place_of_a_byte_that_is_not_utf8_is_named(tmp_path: Path):
    path = tmp_path / "flow.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    problems = Problems()
    read_documents(path, problems)
    assert (problems.found()[0].line, problems.found()[0].column) == (2, 4)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path):
    path = tmp_path / "flow.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: x\r\n")
    problems = Problems()
    (tree,) = read_documents(path, problems)
    assert plain(tree) == {"a": 1, "b": {"c": "x"}}
    assert isinstance(tree, Mapping)
    assert tree.entries["b"].key.place.line == 2
