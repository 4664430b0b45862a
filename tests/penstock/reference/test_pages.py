"""The reference pages: what is committed is what the code says, and nothing is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from connectors.registry import connector_types
from connectors.settings import Duration, Jq, Rate, Secret, Settings, Size, Template, TemplateValue
from penstock.reference.__main__ import main
from penstock.reference.error_codes import PACKAGES, error_codes
from penstock.reference.examples import example_of
from penstock.reference.fields import describe_model, type_text
from penstock.reference.pages import PAGES
from penstock.reference.settings_page import VARIABLES
from transforms.registry import step_types

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "penstock" / "reference" / "examples"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_committed_page_is_up_to_date(name):
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == PAGES[name](), "run `make docs` and commit docs/reference"


def test_the_pages_are_written_into_the_folder_that_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "new")]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(PAGES)
    assert main([]) == 2


def test_every_type_has_its_section():
    text = PAGES["connectors.md"]() + PAGES["steps.md"]()
    for name in [*connector_types(), *step_types()]:
        assert f"\n## {name}\n" in text


def test_every_connector_has_an_example_of_itself_in_its_section():
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(connector_types())
    sections = re.split(r"^## ", PAGES["connectors.md"](), flags=re.MULTILINE)[1:]
    for section in sections:
        name = section.split("\n", 1)[0]
        example = example_of(name)
        assert f"type: {name}\n" in example
        assert section.rstrip().endswith(f"```yaml\n{example}```")
    assert example_of("step.jq") is None


def test_examples_that_are_copied_into_one_folder_share_no_state_and_no_output():
    texts = [path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.yaml")]
    names = [name for text in texts for name in re.findall(r"^name: (.*)$", text, re.MULTILINE)]
    files = [file for text in texts for file in re.findall(r"path: \"?(out/[^\", ]+)", text)]
    assert len(names) == len(set(names)) == len(texts)
    assert len(files) == len(set(files)) >= 9


def test_every_key_of_every_page_has_a_meaning():
    for name in ("flow-file.md", "test-file.md", "connectors.md", "steps.md"):
        empty = [line for line in PAGES[name]().splitlines() if line.endswith("|  |")]
        assert empty == []


def test_every_error_code_is_a_slug_with_words():
    for entry in error_codes():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", entry.code), entry.code
        assert entry.messages or entry.hints, f"{entry.code} has neither a message nor a hint"
        assert entry.kinds, f"nobody knows what kind of error {entry.code} is"


def test_what_a_class_is_for_is_no_message_unless_it_is_an_error():
    messages = {message for entry in error_codes() for message in entry.messages}
    said = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef) and ast.get_docstring(node) is not None:
                    about = ast.get_docstring(node).partition("\n")[0]
                    said |= {node.name} if about in messages else set()
    assert said
    assert all(name.endswith("Error") for name in said), said


def test_every_environment_variable_that_is_read_is_listed():
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found |= set(re.findall(r"[\"'](PENSTOCK_[A-Z_]+)[\"']", path.read_text("utf-8")))
    assert found == {name for name in VARIABLES if name.startswith("PENSTOCK_")}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, "text"),
        (bool, "true or false"),
        (Duration, "duration"),
        (Size | None, "size"),
        (Rate, "rate"),
        (Jq, "jq"),
        (list[Template], "list of template"),
        (TemplateValue, "any value with templates"),
        (Secret, "secret text"),
        (dict[str, Jq], "mapping of name to jq"),
        (str | list[str], "text or list of text"),
    ],
)
def test_types_are_in_words(annotation, expected):
    assert type_text(annotation) == expected


def test_nested_keys_and_defaults_are_as_they_are_written_in_yaml():
    class Inner(Settings):
        delay: Duration = 0.5
        """How long."""

    class Outer(Settings):
        size: Size = 64_000_000
        """How much."""
        inner: tuple[Inner, ...] = ()
        """What is inside."""

    rows = [(row.name, row.type, row.default) for row in describe_model(Outer)]
    assert rows == [
        ("size", "size", "64MB"),
        ("inner", "list of mapping", ""),
        ("inner[].delay", "duration", "500ms"),
    ]
