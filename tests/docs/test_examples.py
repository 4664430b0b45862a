"""What the pages show works: flows load, commands exist, Python runs, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap

import pytest
import typer
from ruamel.yaml import YAML

from connectors.batch import Batch
from connectors.contracts import Outgoing, SinkOpening
from connectors.registry import connector_type
from flows.plan import load_flow, not_built
from flows.testing.documents import find_suites
from flows.testing.model import Case
from flows.testing.suites import load_suite, run_suite
from penstock.cli.app import app, main
from tests.docs.pages import PAGES, ROOT, anchors, blocks, prose
from transforms.contracts import StepEnvironment
from transforms.executions import Executions
from transforms.expressions.functions import FUNCTIONS

FLOWS = blocks("yaml")
SHELL = [*blocks("sh", "ini"), *(block for block in blocks("") if "reference" not in block.page)]
PYTHON = [block for block in blocks("python") if not block.mark.startswith("skip")]


def environment(text: str) -> dict[str, str]:
    """Return a value for every `${NAME}` in the text that has no default."""
    values = {}
    for name in re.findall(r"\$\{(\w+)\}", text):
        if "TOKENS" in name:
            values[name] = "ops:0123456789abcdef:write"
        elif "DATABASE" in name:
            values[name] = "postgresql://somebody@127.0.0.1/shop"
        else:
            values[name] = "http://127.0.0.1:1/x" if "URL" in name else "127.0.0.1:1"
    return values


def wrapped(kind: str, part: object) -> dict:
    """Return a whole flow around a fragment."""
    flow = {
        "modules": [
            {"name": name, "type": "source.kafka", "config": {"brokers": "b:1", "topics": [name]}}
            for name in ("changes", "orders")
        ]
        + [{"name": "out", "type": "sink.stdout"}],
        "schemas": {"order": {"data_schema": {}}},
    }
    trigger = {"type": "event", "source": "changes"}
    before = [
        {"name": name, "type": "step.set", "config": {"values": {"id": 1}}}
        for name in ("customer", "book-flight")
    ]
    pipeline = {"trigger": trigger, "steps": before}
    match kind.split("."):
        case ["flow"]:
            flow |= part
        case ["pipeline"]:
            pipeline = part
        case ["trigger"]:
            pipeline["trigger"] = trigger | part
        case ["schema"]:
            flow["schemas"]["order"] = {"data_schema": {"properties": part}}
        case ["steps"]:
            named = {step["name"] for step in part}
            pipeline["steps"] = [step for step in before if step["name"] not in named] + part
        case ["step", _]:
            pipeline["steps"] = [{"name": "shown", "type": kind, "config": part}]
        case ["source" | "sink", _]:
            flow["modules"].append({"name": "shown", "type": kind, "config": part})
        case _:
            raise AssertionError(f"nobody knows how to try a fragment of the kind {kind!r}")
    return flow | {"pipelines": {"p": pipeline}}


@pytest.mark.parametrize("block", FLOWS, ids=str)
def test_a_flow_on_a_page_loads_and_can_be_run(block, tmp_path):
    if block.mark.startswith("tests") or block.mark == "fragment: case":
        return  # about a flow, and tried below
    if block.mark == "fragment: steps of a plugin":
        return  # its type is made by the page's own Python, which is tried below
    file = tmp_path / "page.yaml"
    kind = block.mark.removeprefix("fragment: ")
    if kind:
        part = YAML(typ="safe").load(textwrap.dedent(block.text))
        file.write_text(json.dumps(wrapped(kind, part)), encoding="utf-8")
    else:
        file.write_text(block.text, encoding="utf-8")
    plan = load_flow([file], environment(block.text))
    assert not_built(plan) == []
    assert plan.pipelines


EXAMPLES = [
    path for path in sorted((ROOT / "examples").glob("*.yaml")) if ".test." not in path.name
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_loads_and_can_be_run(path):
    plan = load_flow([path], environment(path.read_text(encoding="utf-8")))
    assert not_built(plan) == []
    assert plan.pipelines


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_has_tests_and_they_pass(path):
    suites = find_suites([path])
    results = [result for suite in suites for result in run_suite(suite, load_suite(suite, {}))]
    assert results
    assert [failure for result in results for failure in result.failures] == []


TESTED = "docs/how-to/test-a-flow.md"
CASES = [block for block in FLOWS if block.mark.startswith("tests")]


@pytest.fixture
def tested(tmp_path, monkeypatch):
    """A folder with the flow of the page about tests."""
    monkeypatch.chdir(tmp_path)
    flow = next(block for block in FLOWS if block.page == TESTED)
    (tmp_path / "orders.yaml").write_text(flow.text, encoding="utf-8")
    return tmp_path / "orders.test.yaml"


@pytest.mark.parametrize("block", CASES, ids=str)
def test_tests_on_a_page_pass_and_those_that_fail_say_what_it_shows(block, tested, capsys):
    tested.write_text(block.text, encoding="utf-8")
    code = main(["test", "orders.yaml"])
    printed = capsys.readouterr().out
    if block.mark == "tests":
        assert (code, "FAIL" in printed) == (0, False)
        return
    (shown,) = [each for each in blocks("text") if each.page == block.page]
    without_time = re.compile(r" in [\d.]+ s$", re.MULTILINE)
    assert code == 1
    assert without_time.sub("", printed) == without_time.sub("", shown.text)


@pytest.mark.parametrize(
    "block", [block for block in FLOWS if block.mark == "fragment: case"], ids=str
)
def test_a_part_of_a_case_on_a_page_is_one(block):
    part = YAML(typ="safe", pure=True).load(block.text)
    Case.model_validate({"name": "shown"} | ({} if "event" in part else {"data": 1}) | part)


COMMAND = re.compile(r"\s*(?:ExecStart=)?(?:\w+=\S*\s+)*(?:\S*/)?penstock(?:\s+(.*))?")


PART = re.compile(r"""(?:'[^']*'|"[^"]*"|[^|&;])+""")
"""What stands between `|`, `&&` and `;`: those within quotes are text."""


def commands(text: str) -> list[list[str]]:
    """Return the words behind `penstock` in each command of a shell block."""
    lines = text.replace("\\\n", " ").splitlines()
    plain = [re.sub(r"(^|\s)#.*", "", line) for line in lines]
    parts = [part for line in plain for part in PART.findall(line)]
    return [shlex.split(m[1] or "") for part in parts if (m := COMMAND.fullmatch(part))]


COMMANDS = [(block, words) for block in SHELL for words in commands(block.text)]


@pytest.mark.parametrize(
    ("block", "words"), COMMANDS, ids=[f"{block}: {' '.join(words)}" for block, words in COMMANDS]
)
def test_a_command_on_a_page_is_one_of_penstock(block, words):
    command = typer.main.get_command(app)
    words = list(words)
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{block}: there is no command {name}"
        command = command.commands[name]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    known.add("--help")
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    assert set(options) <= known


def test_the_pages_name_the_commands_at_all():
    assert {words[0] for _, words in COMMANDS if words} >= {
        "init",
        "validate",
        "explain",
        "run",
        "dlq",
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), f"{page}: {link}"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_on_a_page_runs(block):
    exec(compile(block.text, str(block), "exec"), {"__name__": "page"})


def shown(name: str) -> dict:
    """Return what the Python block that makes `name` defines."""
    (block,) = [block for block in PYTHON if f"\n{name} = " in block.text]
    names: dict = {"__name__": "page"}
    exec(compile(block.text, str(block), "exec"), names)
    return names


def test_the_step_that_the_page_shows_hides_fields_and_fails_what_is_no_object():
    kind = shown("MASK")["MASK"]
    environment = StepEnvironment(flow="f", pipeline="p", name="mask", number=0)
    step = kind.make(kind.settings(fields=["email"]), environment)
    batch = Batch(2, {"data": [{"n": 1, "email": "a@b"}, 5]}, after={})
    executions = Executions(batch, "p")
    assert step.run(executions, [0, 1])[0] == {"n": 1, "email": "***"}
    assert executions.failures[1].code == "acme_mask"


def test_the_sink_that_the_page_shows_writes_a_file_per_event_and_reports_what_it_could_not(
    tmp_path,
):
    kind = shown("SPOOL")["SPOOL"]
    sink = kind.sink("spool", kind.settings(folder=str(tmp_path)))
    assert [check.ok for check in sink.preflight([])] == [True]
    sink.open(SinkOpening(state={}))
    events = Outgoing([b"1", b"2"], ["k", "k"], lambda: {"id": ["a", "b/c"]})
    failed = sink.deliver(events)
    assert (tmp_path / "a.json").read_bytes() == b"1"
    assert [error.kind for error in failed.values()] == ["retryable"]
    assert list(failed) == [1]


@pytest.mark.slow
def test_the_conformance_test_that_the_page_shows_passes(tmp_path):
    (sink,) = [block for block in PYTHON if "\nSPOOL = " in block.text]
    (conformance,) = [block for block in blocks("python") if "class TestSpool" in block.text]
    (tmp_path / "acme_penstock").mkdir()
    (tmp_path / "acme_penstock" / "spool.py").write_text(sink.text, encoding="utf-8")
    (tmp_path / "test_spool.py").write_text(conformance.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kinds_of_connectors_that_pages_speak_of_exist():
    text = "".join(prose(page) for page in PAGES if "reference" not in page)
    for name in set(re.findall(r"`((?:source|sink|messaging)\.[a-z_]+)`", text)):
        if not name.startswith("sink.acme"):
            assert connector_type(name) is not None, name


def test_every_function_of_templates_is_on_the_page_about_expressions():
    page = (ROOT / "docs/how-to/expressions.md").read_text()
    table = page[page.index("| For | Functions |") : page.index("## Which engine")]
    named = set(re.findall(r"`(\w+)", table))
    assert set(FUNCTIONS) - named == set()
